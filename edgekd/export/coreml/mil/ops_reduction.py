"""Reductions and normalizations."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.export.coreml.mil.datatypes import cast_tensor
from edgekd.export.coreml.mil.registry import OperatorArguments, operation


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


_REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "reduce_mean": lambda x, axes, keep: x.mean(axes, keep),
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keep, dtype=x.dtype),
    "reduce_max": lambda x, axes, keep: x.amax(axes, keep),
    "reduce_min": lambda x, axes, keep: x.amin(axes, keep),
    "reduce_prod": _product,
    "reduce_sum_square": lambda x, axes, keep: (x * x).sum(axes, keep, dtype=x.dtype),
    "reduce_l1_norm": lambda x, axes, keep: x.abs().sum(axes, keep, dtype=x.dtype),
    "reduce_l2_norm": lambda x, axes, keep: (x * x).sum(axes, keep).sqrt(),
    "reduce_log_sum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "reduce_log_sum_exp": lambda x, axes, keep: x.logsumexp(axes, keep),
}
_POSITIONS: dict[str, Callable[[Tensor, int, bool], Tensor]] = {
    "reduce_argmax": torch.argmax,
    "reduce_argmin": torch.argmin,
}


def _register_reduction(kind: str, function: Callable[[Tensor, list[int], bool], Tensor]) -> None:
    @operation(kind, "x", "axes keep_dims")
    def run(a: OperatorArguments) -> Tensor:
        x = a.tensor("x")
        axes = a.integers("axes", list(range(x.dim())))
        return function(x, axes, a.flag("keep_dims", False)).to(x.dtype)


def _register_position(kind: str, function: Callable[[Tensor, int, bool], Tensor]) -> None:
    @operation(kind, "x", "axis keep_dims output_dtype")
    def run(a: OperatorArguments) -> Tensor:
        found = function(a.tensor("x"), a.integer("axis", -1), a.flag("keep_dims", False))
        return cast_tensor(found, a.data_type("output_dtype", "int32"), str(a.operation))


for _kind, _reduction in _REDUCTIONS.items():
    _register_reduction(_kind, _reduction)
for _kind, _position in _POSITIONS.items():
    _register_position(_kind, _position)


@operation("layer_norm", "x", "axes gamma beta epsilon")
def layer_norm(a: OperatorArguments) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) over `axes`, times gamma, plus beta."""
    x = a.tensor("x")
    axes = sorted(axis % x.dim() for axis in a.integers("axes", list(range(x.dim()))))
    epsilon = a.number("epsilon", 1e-5)
    if axes == list(range(axes[0], x.dim())):
        gamma, beta = a.maybe_tensor("gamma"), a.maybe_tensor("beta")
        return F.layer_norm(x, x.shape[axes[0] :], gamma, beta, epsilon)
    sizes = [size if at in axes else 1 for at, size in enumerate(x.shape)]
    return _affine(a, _standardized(x, axes, epsilon), sizes)


@operation("instance_norm", "x", "gamma beta epsilon")
def instance_norm(a: OperatorArguments) -> Tensor:
    """Over the spatial axes of [N,C,D..]."""
    x = a.tensor("x")
    normal = _standardized(x, list(range(2, x.dim())), a.number("epsilon", 1e-5))
    return _affine(a, normal, _channels(x))


@operation("batch_norm", "x mean variance", "gamma beta epsilon")
def batch_norm(a: OperatorArguments) -> Tensor:
    """With the given statistics of each channel of [N,C,D..]."""
    x = a.tensor("x")
    sizes = _channels(x)
    mean, variance = a.tensor("mean").reshape(sizes), a.tensor("variance").reshape(sizes)
    return _affine(a, (x - mean) * torch.rsqrt(variance + a.number("epsilon", 1e-5)), sizes)


@operation("l2_norm", "x", "epsilon")
def l2_norm(a: OperatorArguments) -> Tensor:
    """x / sqrt(sum of squares over the last three axes + epsilon)."""
    x = a.tensor("x")
    squares = (x * x).sum(list(range(-min(3, x.dim()), 0)), keepdim=True)
    return x * torch.rsqrt(squares + a.number("epsilon", 1e-6))


def _standardized(x: Tensor, axes: list[int], epsilon: float) -> Tensor:
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + epsilon)


def _affine(a: OperatorArguments, normal: Tensor, sizes: list[int]) -> Tensor:
    gamma, beta = a.maybe_tensor("gamma"), a.maybe_tensor("beta")
    if gamma is not None:
        normal = normal * gamma.reshape(sizes)
    return normal if beta is None else normal + beta.reshape(sizes)


def _channels(x: Tensor) -> list[int]:
    return [1, -1] + [1] * (x.dim() - 2)
