"""A captured part in the names and shapes of Apple's Swift package: see `runtime.coreml_layout`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from edgekd.export.capture import Capture
from edgekd.runtime.coreml_layout import Layout, named_layout

_OUTPUTS = {"vae_encoder": "latent", "vae_decoder": "image", "unet": "noise_pred"}
_POOLED = "pooled_outputs"


def make_layout(component: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Layout:
    """The layout of a part with the capture's input and output names."""
    return named_layout(component, inputs, _output_names(component, outputs))


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
