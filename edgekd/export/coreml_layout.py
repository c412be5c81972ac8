"""Names and shapes that Apple's Swift package `StableDiffusion` expects of a Core ML model.

Read off `swift/StableDiffusion/pipeline/*.swift` of apple/ml-stable-diffusion 1.1: it finds models
by file name, and the inputs and outputs below by name (a lone input or output by its place).

| package      | inputs, float32                                     | outputs, float32           |
|--------------|-----------------------------------------------------|----------------------------|
| TextEncoder  | input_ids (1,L)                                     | last_hidden_state (1,L,D), |
|              |                                                     | pooled_outputs (1,D)       |
| TextEncoder, | input_ids (1,L)                                     | hidden_embeds (1,L,D),     |
| TextEncoder2 |                                                     | pooled_outputs (1,D)       |
| of SDXL      |                                                     |                            |
| Unet         | sample (2,c,h,w), timestep (2),                     | noise_pred (2,c,h,w)       |
|              | encoder_hidden_states (2,D,1,L);                    |                            |
|              | SDXL: text_embeds (2,P), time_ids (2,6)             |                            |
| VAEDecoder   | z (1,c,h,w), unscaled                               | image (1,3,H,W) in [-1,1]  |
| VAEEncoder   | x (1,3,H,W) in [-1,1]                               | latent (1,2c,h,w)          |

The U-Net's batch is 2: Swift always guides. `timestep_cond` (2,E), of guidance-distilled U-Nets, is
edgekd's own addition; Apple's package does not know it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgekd.export.capture import Capture
from edgekd.export.record import Arrays

Array = npt.NDArray[Any]

PACKAGES = {
    "text_encoder": "TextEncoder",
    "text_encoder_2": "TextEncoder2",
    "vae_encoder": "VAEEncoder",
    "vae_decoder": "VAEDecoder",
    "unet": "Unet",
}
# Capture's name -> Apple's, where they differ.
_INPUTS = {"vae_encoder": {"sample": "x"}, "vae_decoder": {"latent_sample": "z"}}
_OUTPUTS = {"vae_encoder": "latent", "vae_decoder": "image", "unet": "noise_pred"}
_POOLED = "pooled_outputs"


@dataclass(frozen=True)
class Layout:
    """One part in Apple's terms.

    Attributes:
        component, package: edgekd's and Apple's name of the part.
        batch: the fixed first dimension.
        inputs: capture's input name -> Apple's.
        outputs: capture's output name -> Apple's; outputs that Apple's package never reads are
            left out.
    """

    component: str
    package: str
    batch: int
    inputs: dict[str, str]
    outputs: dict[str, str]

    def to_apple(self, inputs: Arrays) -> Arrays:
        """One full batch of the capture's arrays in Apple's shapes, float32."""
        return {
            self.inputs[name]: np.ascontiguousarray(self._shaped(name, array), dtype=np.float32)
            for name, array in inputs.items()
        }

    def _shaped(self, name: str, array: Array) -> Array:
        if self.component == "unet" and name == "timestep":
            return np.broadcast_to(array, (self.batch,))
        if self.component == "unet" and name == "encoder_hidden_states":
            turned: Array = array.transpose(0, 2, 1)
            return turned[:, :, None, :]  # [B,L,D] -> [B,D,1,L]
        return array


def make_layout(component: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Layout:
    """The layout of a part with the capture's input and output names."""
    return named_layout(component, inputs, _output_names(component, outputs))


def named_layout(component: str, inputs: tuple[str, ...], outputs: dict[str, str]) -> Layout:
    """The layout of a part whose outputs are already known by both names."""
    renamed = _INPUTS.get(component, {})
    return Layout(
        component,
        PACKAGES[component],
        batch=2 if component == "unet" else 1,
        inputs={name: renamed.get(name, name) for name in inputs},
        outputs=outputs,
    )


def _output_names(component: str, outputs: tuple[str, ...]) -> dict[str, str]:
    if component in _OUTPUTS:
        return {outputs[0]: _OUTPUTS[component]}
    pooled = next(name for name in outputs if name in ("pooler_output", "text_embeds"))
    hidden = [name for name in outputs if name.startswith("hidden_states.")]
    if not hidden:
        return {"last_hidden_state": "last_hidden_state", pooled: _POOLED}
    # SDXL reads the last but one hidden state of both encoders.
    return {pooled: _POOLED, hidden[-2]: "hidden_embeds"}


class AppleModule(nn.Module):
    """A captured part that takes and gives tensors in Apple's order, shapes and types."""

    def __init__(self, capture: Capture, layout: Layout) -> None:
        super().__init__()
        self.module = capture.module
        self.component = capture.component
        self.names = tuple(capture.example_inputs)
        self.kept = tuple(capture.outputs.index(name) for name in layout.outputs)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        adapt: Callable[[str, Tensor], Tensor] = _from_apple(self.component)
        outputs = self.module(*map(adapt, self.names, inputs))
        return tuple(outputs[index] for index in self.kept)


def _from_apple(component: str) -> Callable[[str, Tensor], Tensor]:
    def adapt(name: str, tensor: Tensor) -> Tensor:
        if name == "input_ids":  # Swift hands over token ids as floats
            return tensor.to(torch.int32)
        if component == "unet" and name == "encoder_hidden_states":
            return tensor.squeeze(2).transpose(1, 2)  # [B,D,1,L] -> [B,L,D]
        return tensor

    return adapt


def example_tensors(capture: Capture, layout: Layout) -> dict[str, Tensor]:
    """Apple's input name -> example tensor, from the capture's examples."""
    arrays = {
        name: tensor.numpy()[: layout.batch] if tensor.ndim else tensor.numpy()
        for name, tensor in capture.example_inputs.items()
    }
    return {name: torch.from_numpy(a) for name, a in layout.to_apple(arrays).items()}
