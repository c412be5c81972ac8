"""Operations that move elements: shapes, slices, joining, padding, ordering."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.errors import InputError
from edgekd.export.coreml.mil.datatypes import cast_tensor
from edgekd.export.coreml.mil.registry import OperatorArguments, operation


@operation("reshape", "x shape")
def reshape(a: OperatorArguments) -> Tensor:
    """0 takes x's size at the same place counted from the last, -1 what remains."""
    x, shape = a.tensor("x"), a.integers("shape")
    for at, size in enumerate(shape):
        if size == 0:
            source = x.dim() - len(shape) + at
            shape[at] = x.shape[source] if source >= 0 else 1
    return x.reshape(shape)


@operation("transpose", "x perm")
def transpose(a: OperatorArguments) -> Tensor:
    return a.tensor("x").permute(a.integers("perm"))


@operation("expand_dims", "x axes")
def expand_dims(a: OperatorArguments) -> Tensor:
    """`axes` count in the result."""
    x, axes = a.tensor("x"), a.integers("axes")
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operation("squeeze", "x", "axes")
def squeeze(a: OperatorArguments) -> Tensor:
    x = a.tensor("x")
    axes = a.maybe_integers("axes")
    if axes is None:
        return x.squeeze()
    if any(x.shape[axis] != 1 for axis in axes):
        raise InputError(f"{a.operation}: squeezed axes must be of size 1", str(tuple(x.shape)))
    return x.squeeze(tuple(axes))


@operation("slice_by_index", "x begin end", "stride begin_mask end_mask squeeze_mask")
def slice_by_index(a: OperatorArguments) -> Tensor:
    """x[begin:end:stride] for each axis, as Python counts; a mask leaves that limit open."""
    x, begin, end = a.tensor("x"), a.integers("begin"), a.integers("end")
    rank = x.dim()
    stride = a.integers("stride", [1] * rank)
    open_begin, open_end = a.flags("begin_mask", rank), a.flags("end_mask", rank)
    single = a.flags("squeeze_mask", rank)
    for axis, (first, last, step) in enumerate(zip(begin, end, stride, strict=True)):
        if single[axis]:
            x = x.narrow(axis, first % x.shape[axis], 1)
            continue
        limits = slice(None if open_begin[axis] else first, None if open_end[axis] else last, step)
        x = _slice(x, axis, limits)
    return x.squeeze(tuple(axis for axis in range(rank) if single[axis]))


@operation("slice_by_size", "x begin size")
def slice_by_size(a: OperatorArguments) -> Tensor:
    """-1 takes all that follows `begin`."""
    x = a.tensor("x")
    for axis, (first, size) in enumerate(zip(a.integers("begin"), a.integers("size"), strict=True)):
        first %= x.shape[axis]
        x = x.narrow(axis, first, x.shape[axis] - first if size == -1 else size)
    return x


def _slice(x: Tensor, axis: int, limits: slice) -> Tensor:
    places = range(*limits.indices(x.shape[axis]))
    if len(places) == x.shape[axis] and places.step == 1:
        return x
    return x.index_select(axis, torch.tensor(list(places), dtype=torch.long))


@operation("concat", "values axis", "interleave")
def concat(a: OperatorArguments) -> Tensor:
    values, axis = a.tensors("values"), a.integer("axis")
    if not a.flag("interleave", False):
        return torch.cat(values, axis)
    axis %= values[0].dim()
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


@operation("stack", "values axis")
def stack(a: OperatorArguments) -> Tensor:
    return torch.stack(a.tensors("values"), a.integer("axis"))


@operation("split", "x axis", "num_splits split_sizes")
def split(a: OperatorArguments) -> tuple[Tensor, ...]:
    x, axis = a.tensor("x"), a.integer("axis")
    sizes = a.maybe_integers("split_sizes")
    if sizes is None:
        count = a.integer("num_splits")
        if count < 1 or x.shape[axis] % count:
            raise InputError(f"{a.operation} must split evenly", f"{x.shape[axis]} by {count}")
        sizes = [x.shape[axis] // count] * count
    parts: tuple[Tensor, ...] = torch.split(x, sizes, axis)
    return parts


@operation("tile", "x reps")
def tile(a: OperatorArguments) -> Tensor:
    return a.tensor("x").repeat(a.integers("reps"))


@operation("reverse", "x", "axes")
def reverse(a: OperatorArguments) -> Tensor:
    x = a.tensor("x")
    return x.flip(a.integers("axes", list(range(x.dim()))))


@operation("pad", "x pad", "mode constant_val")
def pad(a: OperatorArguments) -> Tensor:
    """`pad` holds [before, after] of the last axes, the first of them first."""
    x, pads = a.tensor("x"), a.integers("pad")
    mode = a.choice("mode", ("constant", "reflect", "replicate"), "constant")
    pairs = list(zip(pads[::2], pads[1::2], strict=True))
    if mode == "constant":
        order = [size for pair in reversed(pairs) for size in pair]
        return F.pad(x, order, value=a.number("constant_val", 0.0))
    for axis, (before, after) in enumerate(pairs, x.dim() - len(pairs)):
        size = x.shape[axis]
        if mode == "reflect" and max(before, after) >= size:
            raise InputError(f"{a.operation}: reflections must be below {size}", str(pads))
        places = torch.arange(-before, size + after)
        if mode == "reflect":
            places = (size - 1 - (size - 1 - places.abs()).abs()) if size > 1 else places * 0
        x = x.index_select(axis, places.clamp(0, size - 1))
    return x


@operation("band_part", "x", "lower upper")
def band_part(a: OperatorArguments) -> Tensor:
    """Keep `lower` diagonals below the main one and `upper` above; -1 keeps all."""
    x = a.tensor("x")
    lower, upper = a.integer("lower", -1), a.integer("upper", -1)
    rows, columns = torch.arange(x.shape[-2])[:, None], torch.arange(x.shape[-1])
    keep = torch.ones(x.shape[-2:], dtype=torch.bool)
    if lower >= 0:
        keep &= rows - columns <= lower
    if upper >= 0:
        keep &= columns - rows <= upper
    return torch.where(keep, x, torch.zeros((), dtype=x.dtype))


@operation("cumsum", "x", "axis exclusive reverse")
def cumsum(a: OperatorArguments) -> Tensor:
    x, axis = a.tensor("x"), a.integer("axis", 0)
    backwards = a.flag("reverse", False)
    ordered = x.flip(axis) if backwards else x
    total = ordered.cumsum(axis, dtype=x.dtype)
    if a.flag("exclusive", False):
        # Shifted, not subtracted, so that it stays exact.
        total = total.roll(1, axis)
        total.select(axis, 0).zero_()
    return total.flip(axis) if backwards else total


@operation("fill", "shape", "value")
def fill(a: OperatorArguments) -> Tensor:
    value = a.maybe_tensor("value")
    value = torch.tensor(0.0) if value is None else value.reshape(())
    return value.expand(a.integers("shape")).clone()


@operation("fill_like", "ref_tensor", "value")
def fill_like(a: OperatorArguments) -> Tensor:
    value = a.maybe_tensor("value")
    value = torch.tensor(0.0) if value is None else value.reshape(())
    return value.expand(a.tensor("ref_tensor").shape).clone()


@operation("shape", "x")
def shape(a: OperatorArguments) -> Tensor:
    return torch.tensor(a.tensor("x").shape, dtype=torch.int32)


@operation("range_1d", "start end step")
def range_1d(a: OperatorArguments) -> Tensor:
    start = a.tensor("start")
    first, last, step = a.number("start"), a.number("end"), a.number("step")
    count = max(0, math.ceil((last - first) / step))
    return (first + step * torch.arange(count, dtype=torch.float64)).to(start.dtype)


@operation("topk", "x", "k axis ascending sort return_indices output_indices_dtype")
def topk(a: OperatorArguments) -> Tensor | tuple[Tensor, ...]:
    x, axis, count = a.tensor("x"), a.integer("axis", -1), a.integer("k", 1)
    count = x.shape[axis] if count == -1 else count
    # Unsorted results may come in any order; sorted is one of them.
    order = x.sort(dim=axis, descending=not a.flag("ascending", False), stable=True)
    values = order.values.narrow(axis, 0, count)
    if not a.flag("return_indices", True):
        return values
    wanted = a.data_type("output_indices_dtype", "int32")
    return values, cast_tensor(order.indices.narrow(axis, 0, count), wanted, str(a.operation))


@operation("argsort", "x", "axis ascending")
def argsort(a: OperatorArguments) -> Tensor:
    descending = not a.flag("ascending", False)
    order = a.tensor("x").argsort(dim=a.integer("axis", -1), descending=descending, stable=True)
    return order.to(torch.int32)


@operation("one_hot", "indices one_hot_vector_size", "axis on_value off_value")
def one_hot(a: OperatorArguments) -> Tensor:
    """Negative and too large indices give rows without a hot element."""
    indices, size = a.tensor("indices"), a.integer("one_hot_vector_size")
    axis = a.integer("axis", -1)
    hot = indices.unsqueeze(-1) == torch.arange(size)
    on, off = a.maybe_tensor("on_value"), a.maybe_tensor("off_value")
    on = torch.tensor(1, dtype=torch.int32) if on is None else on.reshape(())
    off = torch.zeros_like(on) if off is None else off.reshape(())
    return torch.where(hot, on, off).movedim(-1, axis)
