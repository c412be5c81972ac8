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
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.export.arithmetic import Apart, Arithmetic, Kind, Number, WeightRounding
from edgekd.export.bits.storage import Array, linear_codes
from edgekd.export.capture import Capture
from edgekd.export.protocol import Floor
from edgekd.export.ranges import Ranges, rounded_activation
from edgekd.export.record import Arrays, Recording

# Times and sizes are whole numbers that a model embeds itself; ids are no floats.
_UP_BLOCK = re.compile(r"up_blocks\.(\d+)")
_EXACT_INPUTS = ("timestep", "time_ids")
_LAYERS: dict[type[nn.Module], Kind] = {
    nn.Conv2d: "conv",
    nn.Linear: "linear",
    nn.Embedding: "embedding",
}


@runtime_checkable
class Simulates(Protocol):
    """What an exporter has besides, that says how its precisions compute.

    Attributes:
        repeated: precisions that torch repeats code by code, so that what is left between the two
            is float32's noise.
    """

    repeated: tuple[str, ...]

    def arithmetic(self, precision: str, component: str) -> Arithmetic | None:
        """As `Exporter.open_component` computes; None: torch cannot do alike."""

    def deployed_arithmetic(self, precision: str, component: str) -> Arithmetic | None:
        """As `OpensDeployed.open_deployed` computes."""


def simulated_floor(
    capture: Capture,
    recordings: Sequence[Recording],
    arithmetic: Arithmetic,
    calibration: Sequence[Recording] = (),
    thrifty: bool = False,
) -> Floor | None:
    """The least SNR of an honest export of this very part; see `simulated` for the arguments.

    None where torch passes float16's range: exporters keep the layers that do in float32. Runtimes
    fuse and order sums as they like, so an honest export may lose some dB more than torch,
    or fewer.
    """
    from edgekd.export.parity import snr_db

    with simulated(capture, arithmetic, calibration, thrifty) as run:
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
    capture: Capture,
    arithmetic: Arithmetic,
    calibration: Sequence[Recording] = (),
    thrifty: bool = False,
) -> Iterator[Callable[[Arrays], dict[str, Array]]]:
    """A part in another arithmetic: a function of inputs that gives float32 outputs by name.

    Args:
        calibration: the calls that the export was calibrated on. Torch takes the ranges of its own
            values on them, so that a wrong range of an export does not become right here.
        thrifty: round each weight when it is read, at every call, instead of a whole copy: for
            large parts and few calls. Where all is computed in float32; else it does nothing.
    """
    plain = not (arithmetic.exact or arithmetic.calibrated)
    thrifty = thrifty and plain and arithmetic.number == "float32"
    module = _copy(capture.module, shared=thrifty)
    layers = _layers(module, arithmetic)

    def run(inputs: Arrays) -> dict[str, Array]:
        with torch.inference_mode():
            found = module(*(_input(n, inputs[n], arithmetic) for n in capture.example_inputs))
        return {
            name: tensor.float().numpy()
            for name, tensor in zip(capture.outputs, found, strict=True)
        }

    bits, ranges = arithmetic.activation_bits, Ranges()
    if arithmetic.calibrated:
        with ranges.watching(_computed(layers, arithmetic.calibrated)):
            for call in calibration:
                run(call.inputs)
    hooks: list[torch.utils.hooks.RemovableHandle] = []
    if thrifty:
        hooks += _round_when_read(module, layers, arithmetic)
    else:
        with torch.inference_mode():
            _round_weights(module, layers, arithmetic)
            if bits is not None and arithmetic.conv is not None:
                ranges.round_biases(bits, arithmetic.conv.bits)
            module.to(_number(arithmetic))
    if bits is not None:
        hooks += _round_inputs(_computed(layers, arithmetic.activations), bits)
        hooks += ranges.rounding(module, bits)
    try:
        yield run
    finally:
        for hook in hooks:
            hook.remove()


def _input(name: str, value: Array, arithmetic: Arithmetic) -> Tensor:
    tensor = torch.from_numpy(np.array(value))  # a copy, which may be rounded in place
    if not tensor.is_floating_point() or name in _EXACT_INPUTS:
        return tensor
    number = _number(arithmetic)
    return tensor.to(getattr(torch, arithmetic.inputs)).to(number)


def _number(arithmetic: Arithmetic) -> torch.dtype:
    found = getattr(torch, "float64" if arithmetic.exact else arithmetic.number)
    assert isinstance(found, torch.dtype)
    return found


@dataclass(frozen=True)
class _Layer:
    """A layer that an arithmetic may round, and what is said of it alone."""

    name: str
    module: nn.Module
    kind: Kind
    apart: Apart | None


def _layers(module: nn.Module, arithmetic: Arithmetic) -> list[_Layer]:
    stages = finest(module)
    return [
        _Layer(name, layer, kind, arithmetic.exception(name, kind, stages))
        for name, layer in module.named_modules()
        for base, kind in _LAYERS.items()
        if isinstance(layer, base)
    ]


def _computed(layers: list[_Layer], kinds: Sequence[Kind]) -> dict[str, nn.Module]:
    """Layers of these kinds that compute with rounded inputs."""
    return {one.name: one.module for one in layers if one.kind in kinds and one.apart is None}


def _copy(module: nn.Module, shared: bool) -> nn.Module:
    """A copy of the modules, with the same tensors or with others."""
    tensors = (*module.parameters(), *module.buffers()) if shared else ()
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


def _rounding(layer: _Layer, arithmetic: Arithmetic) -> WeightRounding | None:
    return arithmetic.weight(layer.kind) if layer.apart is None else layer.apart.weight


def _round_weights(module: nn.Module, layers: list[_Layer], arithmetic: Arithmetic) -> None:
    seen: set[int] = set()  # a weight that two layers share is rounded once
    for layer in layers:
        weight = layer.module.weight
        assert isinstance(weight, Tensor)
        if id(weight) not in seen:
            weight.copy_(_restored(weight, _rounding(layer, arithmetic)))
        seen.add(id(weight))
    for parameter in module.parameters():
        parameter.copy_(_restored(parameter, None, arithmetic.stored))


def _round_when_read(
    module: nn.Module, layers: list[_Layer], arithmetic: Arithmetic
) -> Iterator[torch.utils.hooks.RemovableHandle]:
    roundings = {layer.module: _rounding(layer, arithmetic) for layer in layers}
    for one in module.modules():
        own = dict(one.named_parameters(recurse=False))
        if not own:
            continue

        def before(one: nn.Module, _: object) -> None:
            for name, parameter in one.named_parameters(recurse=False):
                rounding = roundings.get(one) if name == "weight" else None
                value = _restored(parameter, rounding, arithmetic.stored)
                one.register_parameter(name, nn.Parameter(value, requires_grad=False))

        def after(one: nn.Module, _: object, __: object, own: dict[str, Any] = own) -> None:
            for name, parameter in own.items():
                one.register_parameter(name, parameter)

        yield one.register_forward_pre_hook(before)
        yield one.register_forward_hook(after)


def _restored(
    parameter: Tensor, rounding: WeightRounding | None, stored: Number = "float32"
) -> Tensor:
    """A parameter as a runtime restores it from a file."""
    if rounding is not None and parameter.numel() >= rounding.least:
        parameter = torch.from_numpy(rounded_weight(parameter.numpy(), rounding))
    return parameter.to(getattr(torch, stored)).float()


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
    layers: dict[str, nn.Module], bits: int
) -> Iterator[torch.utils.hooks.RemovableHandle]:
    for layer in layers.values():
        yield layer.register_forward_pre_hook(
            lambda _, inputs: (rounded_activation(inputs[0], bits), *inputs[1:])
        )


def finest(module: nn.Module) -> tuple[str, ...]:
    """Names of a U-Net's first and last stage, which work at the size of the latents."""
    last = max(
        (int(n) for n in _UP_BLOCK.findall(" ".join(dict(module.named_modules())))), default=0
    )
    return "down_blocks.0.", f"up_blocks.{last}."
