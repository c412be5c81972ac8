"""A part in a precision's own arithmetic, computed by torch: an honest export comes near it.

How far rounding moves an output depends on the model: one with outliers, or with weights that
cancel each other, loses more than another, in any runtime. So a part that is below the floor of its
precision is held against torch computing with the same rounding.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.export.bits.storage import Array, linear_codes
from edgekd.export.capture import Capture
from edgekd.export.protocol import Floor
from edgekd.export.record import Arrays, Recording

Number = Literal["float64", "float32", "float16", "bfloat16"]
Kind = Literal["conv", "linear", "embedding"]

# Times and sizes are whole numbers that a model embeds itself; ids are no floats.
_UP_BLOCK = re.compile(r"up_blocks\.(\d+)")
_EXACT_INPUTS = ("timestep", "time_ids")
_LAYERS: dict[type[nn.Module], Kind] = {
    nn.Conv2d: "conv",
    nn.Linear: "linear",
    nn.Embedding: "embedding",
}


@dataclass(frozen=True)
class WeightRounding:
    """How the weights of one kind of layer are stored.

    Attributes:
        bits: of symmetric integers with one scale for each output channel, or each group of inputs.
        group: input values that share a scale; None: all of a channel.
        symmetric: else every group has a smallest value of its own.
        rounded: another way of a runtime: the weight [O, ...] as it restores it.
    """

    bits: int
    group: int | None = None
    symmetric: bool = True
    rounded: Callable[[Array, int], Array] | None = None


@dataclass(frozen=True)
class Arithmetic:
    """How a precision computes a part.

    Attributes:
        number: what everything is computed in. For `float32`, the noise of float32 itself.
        stored: type of the weights that are floats.
        conv, linear, embedding: rounding of the weights of such layers; None: floats.
        activation_bits: of the inputs of the kinds of layers in `activations`.
        kept: parts of names of layers that stay floats.
        finest_float: the layers at the size of the latents stay floats.
        inputs: what the part's inputs are rounded to.
    """

    number: Number = "float32"
    stored: Number = "float32"
    conv: WeightRounding | None = None
    linear: WeightRounding | None = None
    embedding: WeightRounding | None = None
    activation_bits: int | None = None
    activations: tuple[Kind, ...] = ("conv", "linear")
    kept: tuple[str, ...] = ()
    finest_float: bool = False
    inputs: Number = "float32"

    def of(self, component: str) -> Arithmetic | None:
        """This, where torch can compute the part so: the mask of text encoders is float32."""
        return None if self.exact and component.startswith("text_encoder") else self

    @property
    def exact(self) -> bool:
        """Nothing is rounded but by float32's own sums."""
        return self == Arithmetic()

    @property
    def stored_only(self) -> bool:
        """Weights are floats or of 8 bits, and what is computed with them is float32."""
        computed = (self.number, self.inputs, self.activation_bits)
        rounded = (r for r in (self.conv, self.linear, self.embedding) if r is not None)
        fine = all((r.bits, r.group) == (8, None) for r in rounded)
        return fine and not self.exact and computed == ("float32", "float32", None)

    def weight(self, kind: Kind) -> WeightRounding | None:
        return {"conv": self.conv, "linear": self.linear, "embedding": self.embedding}[kind]


@runtime_checkable
class Simulates(Protocol):
    """What an exporter has besides, that says how its precisions compute."""

    def arithmetic(self, precision: str, component: str) -> Arithmetic | None:
        """As `Exporter.open_component` computes; None: torch cannot do alike."""

    def deployed_arithmetic(self, precision: str, component: str) -> Arithmetic | None:
        """As `OpensDeployed.open_deployed` computes."""


def simulated_floor(
    capture: Capture, recordings: Sequence[Recording], arithmetic: Arithmetic
) -> Floor | None:
    """The least SNR of an honest export of this very part.

    None where torch passes float16's range: exporters keep the layers that do in float32. Runtimes
    fuse and order sums as they like, so an honest export may lose some dB more than torch,
    or fewer.
    """
    from edgekd.export.parity import snr_db

    with simulated(capture, arithmetic) as run:
        each = [
            snr_db(reference, found[name])
            for one in recordings
            for found in [run(one.inputs)]
            for name, reference in one.outputs.items()
        ]
    worst = float(np.min(each))  # unlike min(), NaN if any is NaN
    if math.isnan(worst):
        return None
    margin = margin_db(arithmetic)
    return Floor(
        worst - margin,
        f"torch keeps {worst:.1f} dB of this model in the same arithmetic, and an export may lose "
        f"{margin:g} dB more",
    )


def margin_db(arithmetic: Arithmetic) -> float:
    """What an honest export may lose beyond torch; see `tests/integration/export/test_simulate.py`.

    Of stored weights alone, runtimes were within 4.8 dB on eight models: docs/export.md.

    Rounded activations have ranges that were measured on other calls, and products of activations
    are rounded too, which torch does not do here.
    """
    return 8.0 if arithmetic.exact or arithmetic.activation_bits else 4.0


@contextmanager
def simulated(
    capture: Capture, arithmetic: Arithmetic
) -> Iterator[Callable[[Arrays], dict[str, Array]]]:
    """A part in another arithmetic: a function of inputs that gives float32 outputs by name."""
    module = copy.deepcopy(capture.module)
    with torch.inference_mode():
        _round_weights(module, arithmetic)
        module.to(_number(arithmetic))
    hooks = list(_round_inputs(module, arithmetic))

    def run(inputs: Arrays) -> dict[str, Array]:
        with torch.inference_mode():
            found = module(*(_input(n, inputs[n], arithmetic) for n in capture.example_inputs))
        return {
            name: tensor.float().numpy()
            for name, tensor in zip(capture.outputs, found, strict=True)
        }

    try:
        yield run
    finally:
        for hook in hooks:
            hook.remove()


def _input(name: str, value: Array, arithmetic: Arithmetic) -> Tensor:
    tensor = torch.from_numpy(np.asarray(value))
    if not tensor.is_floating_point() or name in _EXACT_INPUTS:
        return tensor
    number = _number(arithmetic)
    return tensor.to(getattr(torch, arithmetic.inputs)).to(number)


def _number(arithmetic: Arithmetic) -> torch.dtype:
    found = getattr(torch, "float64" if arithmetic.exact else arithmetic.number)
    assert isinstance(found, torch.dtype)
    return found


def _kept(module: nn.Module, arithmetic: Arithmetic) -> tuple[str, ...]:
    return (*arithmetic.kept, *(finest(module) if arithmetic.finest_float else ()))


def _layers(module: nn.Module, kept: tuple[str, ...]) -> Iterator[tuple[nn.Module, Kind]]:
    for name, layer in module.named_modules():
        kind = next((kind for base, kind in _LAYERS.items() if isinstance(layer, base)), None)
        if kind is not None and not any(part in name for part in kept):
            yield layer, kind


def _round_weights(module: nn.Module, arithmetic: Arithmetic) -> None:
    seen: set[int] = set()  # a weight that two layers share is rounded once
    for layer, kind in _layers(module, _kept(module, arithmetic)):
        rounding, weight = arithmetic.weight(kind), layer.weight
        assert isinstance(weight, Tensor)
        if rounding is None or id(weight) in seen:
            continue
        seen.add(id(weight))
        weight.copy_(torch.from_numpy(rounded_weight(weight.numpy(), rounding)))
    if arithmetic.stored != "float32":
        stored = getattr(torch, arithmetic.stored)
        for parameter in module.parameters():
            parameter.copy_(parameter.to(stored).float())


def rounded_weight(weight: Array, rounding: WeightRounding) -> Array:
    """A weight [O, ...] as it is restored."""
    if rounding.rounded is not None:
        return rounding.rounded(weight, rounding.bits)
    rows = weight.reshape(len(weight), -1)
    group = rounding.group
    if group is not None and rows.shape[1] % group == 0:
        rows = rows.reshape(-1, group)
    restored = _symmetric(rows, rounding.bits) if rounding.symmetric else _affine(rows, rounding)
    return restored.reshape(weight.shape)


def _symmetric(rows: Array, bits: int) -> Array:
    codes, scale = linear_codes(rows, bits)
    return codes.astype(np.float32) * scale


def _affine(rows: Array, rounding: WeightRounding) -> Array:
    """Integers from the smallest to the largest value of each row."""
    low, high = rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True)
    step = np.maximum((high - low) / (2**rounding.bits - 1), np.finfo(np.float32).tiny)
    return np.asarray(np.rint((rows - low) / step) * step + low, dtype=np.float32)


def _round_inputs(
    module: nn.Module, arithmetic: Arithmetic
) -> Iterator[torch.utils.hooks.RemovableHandle]:
    bits = arithmetic.activation_bits
    if bits is None:
        return
    for layer, kind in _layers(module, _kept(module, arithmetic)):
        if kind in arithmetic.activations:
            yield layer.register_forward_pre_hook(
                lambda _, inputs: (rounded_activation(inputs[0], bits), *inputs[1:])
            )


def finest(module: nn.Module) -> tuple[str, ...]:
    """Names of a U-Net's first and last stage, which work at the size of the latents."""
    last = max(
        (int(n) for n in _UP_BLOCK.findall(" ".join(dict(module.named_modules())))), default=0
    )
    return "down_blocks.0.", f"up_blocks.{last}."


def rounded_activation(value: Tensor, bits: int) -> Tensor:
    """Integers from the smallest to the largest value of a tensor, zero among them."""
    low, high = value.amin().clamp(max=0), value.amax().clamp(min=0)
    step = ((high - low) / (2**bits - 1)).clamp(min=torch.finfo(torch.float32).tiny)
    rounded: Tensor = torch.round((value - low) / step) * step + low
    return rounded.to(value.dtype)
