"""Matrix products, attention, convolution and pooling.

Shapes: N batch, C channels, O output channels, D.. spatial sizes, K.. kernel sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.errors import InputError
from edgekd.export.coreml.mil.registry import OperatorArguments, operation

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}
_AVERAGES: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_MAXIMA: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_PAD_TYPES = ("valid", "custom", "same", "same_lower")


@operation("linear", "x weight", "bias")
def linear(a: OperatorArguments) -> Tensor:
    return F.linear(a.tensor("x"), a.tensor("weight"), a.maybe_tensor("bias"))


@operation("matmul", "x y", "transpose_x transpose_y")
def matmul(a: OperatorArguments) -> Tensor:
    x, y = a.tensor("x"), a.tensor("y")
    # MIL ignores the flags for vectors, which have nothing to transpose.
    if a.flag("transpose_x", False) and x.dim() > 1:
        x = x.transpose(-1, -2)
    if a.flag("transpose_y", False) and y.dim() > 1:
        y = y.transpose(-1, -2)
    return x @ y


@operation("einsum", "values equation")
def einsum(a: OperatorArguments) -> Tensor:
    return torch.einsum(a.text("equation"), *a.tensors("values"))


@operation("scaled_dot_product_attention", "query key value", "attn_mask")
def attention(a: OperatorArguments) -> Tensor:
    """softmax(Q K^T / sqrt(E) + mask) V; a boolean mask keeps what is True."""
    return F.scaled_dot_product_attention(
        a.tensor("query"), a.tensor("key"), a.tensor("value"), a.maybe_tensor("attn_mask")
    )


@operation("conv", "x weight", "bias strides pad_type pad dilations groups")
def conv(a: OperatorArguments) -> Tensor:
    x, weight = a.tensor("x"), a.tensor("weight")
    rank = _spatial_rank(a, x)
    strides = a.integers("strides", [1] * rank)
    dilations = a.integers("dilations", [1] * rank)
    pads = _pads(a, x, list(weight.shape[2:]), strides, dilations)
    x, padding = _pad_or_leave(x, pads)
    bias, groups = a.maybe_tensor("bias"), a.integer("groups", 1)
    return _CONVOLUTIONS[rank](x, weight, bias, strides, padding, dilations, groups)


@operation("conv_transpose", "x weight", "bias strides pad_type pad dilations groups output_shape")
def conv_transpose(a: OperatorArguments) -> Tensor:
    x, weight = a.tensor("x"), a.tensor("weight")
    rank = _spatial_rank(a, x)
    kind = a.choice("pad_type", ("valid", "custom"), "valid")
    pads = a.integers("pad", [0] * 2 * rank) if kind == "custom" else [0] * 2 * rank
    full = _TRANSPOSED[rank](
        x,
        weight,
        a.maybe_tensor("bias"),
        a.integers("strides", [1] * rank),
        0,
        0,
        a.integer("groups", 1),
        a.integers("dilations", [1] * rank),
    )
    sizes = a.maybe_integers("output_shape")
    for axis in range(rank):
        before, after = pads[2 * axis], pads[2 * axis + 1]
        size = full.shape[axis + 2] - before - after if sizes is None else sizes[axis + 2]
        if size > full.shape[axis + 2] - before:
            raise a.unknown(f"output_shape={sizes}, beyond what the kernel reaches")
        full = full.narrow(axis + 2, before, size)
    return full


@operation(
    "avg_pool", "x kernel_sizes", "strides pad_type pad exclude_padding_from_average ceil_mode"
)
def avg_pool(a: OperatorArguments) -> Tensor:
    x, kernel = a.tensor("x"), a.integers("kernel_sizes")
    strides = a.integers("strides", [1] * len(kernel))
    pads = _pool_pads(a, x, kernel, strides)
    pool = _AVERAGES[_spatial_rank(a, x)]
    padded = pool(F.pad(x, _torch_order(pads)), kernel, strides)
    if not a.flag("exclude_padding_from_average", False):
        return padded
    # Share of each window that is not padding; of ones, so that it is exact.
    inside = pool(F.pad(torch.ones_like(x[:1, :1]), _torch_order(pads)), kernel, strides)
    return padded / inside


@operation("max_pool", "x kernel_sizes", "strides pad_type pad ceil_mode")
def max_pool(a: OperatorArguments) -> Tensor:
    x, kernel = a.tensor("x"), a.integers("kernel_sizes")
    strides = a.integers("strides", [1] * len(kernel))
    pads = _torch_order(_pool_pads(a, x, kernel, strides))
    return _MAXIMA[_spatial_rank(a, x)](F.pad(x, pads, value=-math.inf), kernel, strides)


def _spatial_rank(a: OperatorArguments, x: Tensor) -> int:
    rank = x.dim() - 2
    if rank not in (1, 2, 3):
        raise InputError(f"{a.operation}: `x` must have 3 to 5 dimensions", str(x.dim()))
    return rank


def _pool_pads(a: OperatorArguments, x: Tensor, kernel: list[int], strides: list[int]) -> list[int]:
    if a.flag("ceil_mode", False):
        raise a.unknown("ceil_mode=True")
    return _pads(a, x, kernel, strides, [1] * len(kernel))


def _pads(
    a: OperatorArguments, x: Tensor, kernel: list[int], strides: list[int], dilations: list[int]
) -> list[int]:
    """[before, after] for each spatial axis, in MIL's order.

    `same` keeps ceil(D / stride) outputs; an odd rest goes behind, with `same_lower` in front.
    """
    kind = a.choice("pad_type", _PAD_TYPES, "valid")
    if kind == "valid":
        return [0] * 2 * len(kernel)
    if kind == "custom":
        return a.integers("pad", [0] * 2 * len(kernel))
    pads = []
    for size, k, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max(0, (math.ceil(size / stride) - 1) * stride + (k - 1) * dilation + 1 - size)
        small, large = total // 2, total - total // 2
        pads += [small, large] if kind == "same" else [large, small]
    return pads


def _pad_or_leave(x: Tensor, pads: list[int]) -> tuple[Tensor, list[int]]:
    """Symmetric padding is left to the convolution, which need not copy its input."""
    if pads[::2] == pads[1::2]:
        return x, pads[::2]
    return F.pad(x, _torch_order(pads)), [0] * (len(pads) // 2)


def _torch_order(pads: list[int]) -> list[int]:
    """torch counts pads from the last axis."""
    pairs = [pads[at : at + 2] for at in range(0, len(pads), 2)]
    return [size for pair in reversed(pairs) for size in pair]
