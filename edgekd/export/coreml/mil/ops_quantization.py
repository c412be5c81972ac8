"""Quantized activations (W8A8)."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekd.errors import GateError, InputError
from edgekd.export.coreml.mil.datatypes import integer_range
from edgekd.export.coreml.mil.registry import OperatorArguments, operation


@operation("quantize", "input scale output_dtype", "zero_point axis")
def quantize(a: OperatorArguments) -> Tensor:
    """clip(round(input / scale) + zero_point), halves to even.

    Raises:
        GateError: NaN or infinity, which an integer would hide.
    """
    x = a.tensor("input")
    if not bool(torch.isfinite(x).all()):
        raise GateError(f"{a.operation}: quantized activations must be finite", "NaN or infinity")
    low, high = integer_range(a.data_type("output_dtype"))
    levels = (x / _along(a, "scale", x)).round()
    zero_point = _along(a, "zero_point", x) if a.has("zero_point") else 0
    return (levels + zero_point).clamp(low, high).to(torch.int32)


@operation("dequantize", "input scale", "zero_point axis")
def dequantize(a: OperatorArguments) -> Tensor:
    """scale * (input - zero_point)."""
    x = a.tensor("input")
    zero_point = _along(a, "zero_point", x) if a.has("zero_point") else 0
    return (x - zero_point) * _along(a, "scale", x)


def _along(a: OperatorArguments, name: str, x: Tensor) -> Tensor:
    """A scalar, or a vector along the operation's axis."""
    value = a.tensor(name)
    if value.dim() == 0:
        return value
    axis = a.integer("axis")
    if value.shape != (x.shape[axis],):
        raise InputError(f"{a.operation}: `{name}` must fit axis {axis}", str(tuple(value.shape)))
    sizes = [1] * x.dim()
    sizes[axis] = -1
    return value.reshape(sizes)
