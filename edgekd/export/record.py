"""Real inputs and outputs of every part, recorded while the pipeline draws.

What a part sees at run time is not noise: parity is measured, and quantization
calibrated, on what the parts of this very pipeline hand to each other along
its denoising trajectory. Outputs come from the untouched float32 pipeline.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from edgekd.export.capture import (
    select_output,
    text_encoder_outputs,
    unet_inputs,
    vae_encoder_module,
    vae_encoder_output,
)
from edgekd.export.outline import component_names, is_sdxl

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Recording:
    """One call of one part: input and output arrays by name, and the scheduler's timestep."""

    inputs: Arrays
    outputs: Arrays
    timestep: float | None = None


class Session(BaseModel, frozen=True):
    """What repeats a drawing session, on this runtime or on another.

    Attributes:
        prompts: one call of the pipeline each.
        steps: denoising steps; the U-Net is called at every one.
        guidance_scale: classifier-free guidance; above 1 doubles the U-Net's batch. A U-Net that
            is conditioned on guidance gets it as an input instead.
        seed: of the first picture's noise; the others count up.
        size: picture height and width in pixels; None: the pipeline's own.
        images_per_prompt: batch of one call of the pipeline.
    """

    prompts: tuple[str, ...]
    steps: int
    guidance_scale: float
    seed: int = 0
    size: tuple[int, int] | None = None
    images_per_prompt: int = 1


@dataclass(frozen=True)
class Trajectory:
    """All calls of one drawing session.

    Attributes:
        recordings: part -> its calls, in order.
        images: what came out, float32 [N,H,W,3] in [0,1].
        other: the same pipeline at another size and batch, for exports of dynamic shapes.
    """

    recordings: dict[str, list[Recording]]
    images: npt.NDArray[np.float32]
    session: Session
    other: Trajectory | None = None

    def calls(self, component: str) -> list[Recording]:
        """The calls of one part at the pipeline's own shapes, then those at other shapes."""
        further = self.other.calls(component) if self.other is not None else []
        return self.recordings[component] + further


def draw(pipeline: Any, session: Session) -> npt.NDArray[np.float32]:
    """Draw pictures for each prompt, float32 [N,H,W,3] in [0,1].

    Picture i starts from the noise of `seed + i`, on the CPU: the same in every runtime.
    """
    height, width = session.size or (None, None)
    count = session.images_per_prompt
    pictures: list[npt.NDArray[np.float32]] = []
    for prompt in session.prompts:
        first = session.seed + len(pictures)
        generators = [torch.Generator().manual_seed(first + i) for i in range(count)]
        drawn = pipeline(
            prompt,
            height=height,
            width=width,
            num_inference_steps=session.steps,
            guidance_scale=session.guidance_scale,
            num_images_per_prompt=count,
            generator=generators[0] if count == 1 else generators,
            output_type="np",
        ).images
        pictures.extend(drawn)
    return np.stack(pictures).astype(np.float32)


def record_denoising_inputs(pipeline: Any, session: Session) -> Trajectory:
    """Draw with a diffusers pipeline in float32 and record every call of every part.

    The VAE encoder, which text-to-image does not call, is given the pictures drawn.
    """
    recordings: dict[str, list[Recording]] = {name: [] for name in component_names(pipeline)}
    with torch.inference_mode(), _recording(pipeline, recordings):
        images = draw(pipeline, session)
        if "vae_encoder" in recordings:
            batches = np.split(images, len(session.prompts))
            recordings["vae_encoder"] = [_encode(pipeline.vae, batch) for batch in batches]
    return Trajectory(recordings, images, session)


@contextlib.contextmanager
def _recording(pipeline: Any, recordings: dict[str, list[Recording]]) -> Iterator[None]:
    """Listen to the parts of a pipeline; what is put in place is taken away on exit."""
    handles = []
    for name in ("text_encoder", "text_encoder_2"):
        if name in recordings:
            encoder = getattr(pipeline, name)
            outputs = text_encoder_outputs(encoder, with_hidden_states=is_sdxl(pipeline))
            hook = _text_encoder_hook(recordings[name], outputs)
            handles.append(encoder.register_forward_hook(hook, with_kwargs=True))
    hook = _unet_hook(recordings["unet"], unet_inputs(pipeline.unet.config))
    handles.append(pipeline.unet.register_forward_hook(hook, with_kwargs=True))
    decode = pipeline.vae.decode

    def recording_decode(z: Tensor, *args: Any, **kwargs: Any) -> Any:
        result = decode(z, *args, **kwargs)
        picture = _array(result[0])
        recordings["vae_decoder"].append(
            Recording({"latent_sample": _array(z)}, {"sample": picture})
        )
        return result

    pipeline.vae.decode = recording_decode
    try:
        yield
    finally:
        del pipeline.vae.decode
        for handle in handles:
            handle.remove()


Hook = Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], None]


def _text_encoder_hook(records: list[Recording], outputs: tuple[str, ...]) -> Hook:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        input_ids = args[0] if args else kwargs["input_ids"]
        records.append(
            Recording(
                {"input_ids": _array(input_ids)},
                {name: _array(select_output(result, name)) for name in outputs},
            )
        )

    return hook


def _unet_hook(records: list[Recording], inputs: tuple[str, ...]) -> Hook:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        named = dict(zip(("sample", "timestep", "encoder_hidden_states"), args, strict=False))
        named |= {**kwargs, **(kwargs.get("added_cond_kwargs") or {})}
        timestep = torch.as_tensor(named["timestep"]).float().reshape(())
        values = {name: _array(timestep if name == "timestep" else named[name]) for name in inputs}
        records.append(Recording(values, {"out_sample": _array(result[0])}, float(timestep)))

    return hook


def _encode(vae: Any, images: npt.NDArray[np.float32]) -> Recording:
    sample = torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1
    (latents,) = vae_encoder_module(vae)(sample)
    return Recording({"sample": _array(sample)}, {vae_encoder_output(vae): _array(latents)})


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = tensor.detach().cpu().contiguous().numpy().copy()
    return array
