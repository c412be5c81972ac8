"""8-bit activations: the inputs of convolutions and linear layers, rounded as a device rounds them.

    q = clamp(round(x / s), -128, 127),  s = max |x| / 127

with one scale per tensor, from the inputs recorded along real denoising runs. In the program each
such layer reads `quantize` and `dequantize`; with 8-bit weights Core ML then computes it in int8
on the Neural Engine of an A17 Pro, an M4, or newer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.errors import GateError
from edgekd.export.capture import Capture
from edgekd.export.coreml.convert import recorded_tensors
from edgekd.export.record import Recording

LARGEST = 127
# The first and the last convolution carry the latents themselves: rounding them to 8 bits costs
# more than all other layers together, and they are a thousandth of the work.
KEEP_FLOAT = ("conv_in", "conv_out", "time_embedding", "add_embedding", "quant_conv")


def quantized_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Layers whose inputs are rounded, by name."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and not any(part in name for part in KEEP_FLOAT)
    }


def calibrate(capture: Capture, recordings: list[Recording]) -> dict[str, float]:
    """Layer name -> scale of its input, from all recorded calls.

    Raises:
        GateError: an activation that is not finite.
    """
    layers = quantized_layers(capture.module)
    largest = dict.fromkeys(layers, 0.0)

    def watch(name: str) -> Any:
        def hook(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
            largest[name] = max(largest[name], float(args[0].abs().max()))

        return hook

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        with torch.inference_mode():
            for recording in recordings:
                capture.module(*recorded_tensors(capture, recording))
    finally:
        for handle in handles:
            handle.remove()
    for name, value in largest.items():
        if not value < float("inf"):
            raise GateError("activations must be finite", f"{value} before `{name}`")
    # A layer that only ever saw zeros keeps them under any scale.
    return {name: (value or 1.0) / LARGEST for name, value in largest.items()}


@contextlib.contextmanager
def rounded_inputs(module: nn.Module, scales: dict[str, float]) -> Iterator[None]:
    """While open, the named layers see their inputs rounded to 8 bits; a trace records that."""

    def round_input(scale: float) -> Any:
        def hook(layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            codes = torch.quantize_per_tensor(args[0], scale, 0, torch.qint8)
            return (codes.dequantize(), *args[1:])

        return hook

    layers = dict(module.named_modules())
    handles = [
        layers[name].register_forward_pre_hook(round_input(scale)) for name, scale in scales.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
