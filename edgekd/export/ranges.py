"""Rounded activations: integers between the ends of a call's values, or of all recorded ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_SHORTCUT = ".conv_shortcut"


def rounded_activation(value: Tensor, bits: int, ends: tuple[float, float] | None = None) -> Tensor:
    """Integers of so many bits from the smallest to the largest value, zero exact among them.

    Args:
        ends: smallest and largest value; beyond them it is cut off. None: the tensor's own.
    """
    low, high = ends or (float(value.amin()), float(value.amax()))
    low, high, levels = min(low, 0.0), max(high, 0.0), 2**bits - 1
    step = max((high - low) / levels, torch.finfo(torch.float32).tiny)
    zero = round(-low / step)
    codes = torch.clamp(torch.round(value.float() / step) + zero, 0, levels)
    rounded: Tensor = (codes - zero) * step
    return rounded.to(value.dtype)


class Ranges:
    """Ends of the inputs and outputs of layers, over all calls that they are watched at."""

    def __init__(self) -> None:
        self._layers: dict[str, nn.Module] = {}
        self._ends: dict[tuple[str, str], tuple[float, float]] = {}

    @contextmanager
    def watching(self, layers: dict[str, nn.Module]) -> Iterator[None]:
        """Take part in every call of these layers, by name."""

        def see(name: str, side: str, value: Tensor) -> None:
            low, high = self._ends.get((name, side), (0.0, 0.0))
            self._ends[name, side] = (
                min(low, float(value.amin())),
                max(high, float(value.amax())),
            )

        def hook(name: str) -> Any:
            def look(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
                see(name, "input", inputs[0])
                see(name, "output", output)

            return look

        handles = [one.register_forward_hook(hook(name)) for name, one in layers.items()]
        self._layers = dict(layers)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def round_biases(self, bits: int, weight_bits: int) -> None:
        """Let biases be whole multiples of a step of the input times one of the weights.

        A runtime adds them to the integers that it sums. Steps of rounded weights are symmetric.
        """
        for name, layer in self._layers.items():
            if (name, "input") in self._ends and isinstance(layer.bias, Tensor):
                low, high = self._ends[name, "input"]
                weight, bias = layer.weight, layer.bias.double()
                assert isinstance(weight, Tensor)
                largest = weight.flatten(1).abs().amax(1).double() / 2 ** (weight_bits - 1)
                step = (largest * (high - low) / (2**bits - 1)).clamp(min=1e-300)
                layer.bias.copy_(torch.round(bias / step) * step)

    def rounding(self, module: nn.Module, bits: int) -> Iterator[torch.utils.hooks.RemovableHandle]:
        """Hooks that round the inputs and outputs of the layers watched, inside `module`.

        A tensor is rounded in place: a runtime rounds it where it comes from, for all who read it.
        A shortcut's is the input of its block, and others have read it before the shortcut does.
        """

        def before(ends: tuple[float, float]) -> Any:
            def round_it(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                inputs[0].copy_(rounded_activation(inputs[0], bits, ends))

            return round_it

        def after(ends: tuple[float, float]) -> Any:
            return lambda _, __, output: rounded_activation(output, bits, ends)

        for name, layer in self._layers.items():
            if (name, "input") not in self._ends:
                continue  # never called
            reader = layer
            if name.endswith(_SHORTCUT):
                reader = module.get_submodule(name.removesuffix(_SHORTCUT))
            yield reader.register_forward_pre_hook(before(self._ends[name, "input"]))
            yield layer.register_forward_hook(after(self._ends[name, "output"]))
