"""What rounding weights does to the pictures: draw with rounded weights from the same noise.

The pipeline draws the same prompts from the same noise at its own number of steps (at most
`PARITY_STEPS`) and guidance, in float32, once untouched and once with some weights rounded exactly
as the runtime will store them. The noise of a rounding is the mean squared error between the two.

Shapes: N pictures of H by W pixels, c latent channels of h by w.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgekd.errors import GateError
from edgekd.export.bits.cache import Noise
from edgekd.export.bits.storage import WeightStorage
from edgekd.export.bits.weights import Bits, models
from edgekd.export.parity import EXACT_DB
from edgekd.export.record import Session

Array = npt.NDArray[Any]


def noise_db(power: float, peak: float = 1.0) -> float:
    """PSNR in dB of a mean squared error; 200 for none, -200 for an infinite one."""
    if math.isinf(power):
        return -EXACT_DB
    return min(10 * math.log10(peak**2 / power), EXACT_DB) if power > 0 else EXACT_DB


class RepeatedDrawing:
    """One drawing session that is repeated with rounded weights.

    Args:
        pipeline: diffusers pipeline in float32; its weights are put back after every measurement.
        session: one picture for each prompt, drawn as one batch.

    Raises:
        GateError: the untouched pipeline gives NaN or infinity.
    """

    def __init__(
        self,
        pipeline: Any,
        session: Session,
        storage: WeightStorage,
    ) -> None:
        self.session = session
        self.models = models(pipeline)
        self.storage = storage
        self._pipeline = pipeline
        self.latents, self.pictures = self._draw()
        if not (np.isfinite(self.latents).all() and np.isfinite(self.pictures).all()):
            raise GateError("the pipeline must draw finite pictures", "NaN or infinity")

    @property
    def latents_peak(self) -> float:
        """Range of the final latents: the peak of their PSNR."""
        return float(np.ptp(self.latents))

    def noise(self, bits: Mapping[str, Bits]) -> Noise:
        """Noise of rounding the weights of each component as told.

        A picture that is not finite has infinite noise.
        """
        with rounded(self.models, bits, self.storage):
            latents, pictures = self._decode_only() if set(bits) <= {"vae"} else self._draw()
        return Noise(_power(self.pictures, pictures), _power(self.latents, latents))

    def _draw(self) -> tuple[Array, Array]:
        """Latents [N,c,h,w] as the decoder gets them, pictures [N,H,W,3] in [0,1]."""
        how = self.session
        seeds = range(how.seed, how.seed + len(how.prompts))
        with torch.inference_mode(), _listening(self._pipeline.vae) as decoded:
            pictures = self._pipeline(
                list(how.prompts),
                num_inference_steps=how.steps,
                guidance_scale=how.guidance_scale,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                output_type="np",
            ).images
        return torch.cat(decoded).numpy(), pictures

    def _decode_only(self) -> tuple[Array, Array]:
        """As `_draw`, where only the decoder has changed: the latents are the same."""
        with torch.inference_mode():
            decoded = self._pipeline.vae.decode(torch.from_numpy(self.latents), return_dict=False)[
                0
            ]
            pictures = self._pipeline.image_processor.postprocess(decoded, output_type="np")
        return self.latents, pictures


@contextlib.contextmanager
def rounded(
    found: Mapping[str, nn.Module], bits: Mapping[str, Bits], storage: WeightStorage
) -> Iterator[None]:
    """Round weights of models in place; they are put back on exit, bit for bit.

    Raises:
        GateError: a weight is NaN or infinite.
    """
    originals: list[tuple[nn.Parameter, Tensor]] = []
    try:
        for component, names in bits.items():
            parameters = dict(found[component].named_parameters())
            for name, count in names.items():
                if count is not None:
                    parameter = parameters[name]
                    weight = parameter.detach().cpu().numpy()
                    originals.append((parameter, parameter.data))
                    parameter.data = torch.from_numpy(storage.rounded(weight, count)).to(
                        parameter.device
                    )
        yield
    finally:
        for parameter, original in originals:
            parameter.data = original


@contextlib.contextmanager
def _listening(vae: Any) -> Iterator[list[Tensor]]:
    """Collect what the decoder is given."""
    given: list[Tensor] = []
    decode = vae.decode

    def listen(z: Tensor, *args: Any, **kwargs: Any) -> Any:
        given.append(z.detach().cpu().clone())
        return decode(z, *args, **kwargs)

    vae.decode = listen
    try:
        yield given
    finally:
        del vae.decode


def _power(reference: Array, output: Array) -> float:
    power = float(np.mean((reference.astype(np.float64) - output.astype(np.float64)) ** 2))
    return power if math.isfinite(power) else math.inf
