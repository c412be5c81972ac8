"""Gathering and scattering by index.

From iOS 17 on, negative indices are out of range; here every index out of
range is an error, whatever the program asks the runtime to do about it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgekd.errors import GateError
from edgekd.export.coreml.mil.registry import OperatorArguments, operation


def _indices(a: OperatorArguments, size: int) -> Tensor:
    indices = a.tensor("indices")
    if indices.is_floating_point() or indices.dtype == torch.bool:
        raise a.unknown("indices that are not integers")
    _check(a, indices, size)
    return indices.long()


def _check(a: OperatorArguments, indices: Tensor, size: int) -> None:
    if indices.numel() and (int(indices.min()) < 0 or int(indices.max()) >= size):
        found = f"{int(indices.min())} to {int(indices.max())}"
        raise GateError(f"{a.operation}: indices must be from 0 to {size - 1}", found)


@operation("gather", "x indices", "axis batch_dims validate_indices")
def gather(a: OperatorArguments) -> Tensor:
    """[A.., B.., axis, R..] and [A.., I..] -> [A.., B.., I.., R..], A the batch dimensions."""
    x, batch = a.tensor("x"), a.integer("batch_dims", 0)
    axis = a.integer("axis", 0) % x.dim()
    indices = _indices(a, x.shape[axis])
    batch %= indices.dim() + 1
    chosen, head = indices.shape[batch:], x.shape[:axis]
    if batch == 0:
        found = x.index_select(axis, indices.reshape(-1))
        return found.reshape(head + chosen + x.shape[axis + 1 :])
    # One row of indices for each batch entry, the same for all that lies between.
    rows = math.prod(x.shape[:batch])
    flat = x.reshape(rows, math.prod(x.shape[batch:axis]), x.shape[axis], -1)
    places = indices.reshape(rows, 1, -1, 1).expand(-1, flat.shape[1], -1, flat.shape[3])
    return flat.gather(2, places).reshape(head + chosen + x.shape[axis + 1 :])


@operation("gather_along_axis", "x indices", "axis validate_indices")
def gather_along_axis(a: OperatorArguments) -> Tensor:
    x, axis = a.tensor("x"), a.integer("axis", 0)
    return x.gather(axis, _indices(a, x.shape[axis]))


@operation("gather_nd", "x indices", "batch_dims validate_indices")
def gather_nd(a: OperatorArguments) -> Tensor:
    """The last axis of `indices` holds the place in x behind the batch dimensions."""
    x, indices, batch = a.tensor("x"), a.tensor("indices"), a.integer("batch_dims", 0)
    depth = indices.shape[-1]
    for column in range(depth):
        _check(a, indices[..., column], x.shape[batch + column])
    rows = x.shape[:batch]
    flat = x.reshape((math.prod(rows), *x.shape[batch:]))
    places = indices.long().reshape(math.prod(rows), -1, depth)
    row = torch.arange(flat.shape[0])[:, None].expand(places.shape[:2])
    at = (row, *places.unbind(-1))
    found = flat[at]
    return found.reshape(indices.shape[:-1] + x.shape[batch + depth :])


@operation("scatter_along_axis", "data indices updates", "axis mode validate_indices")
def scatter_along_axis(a: OperatorArguments) -> Tensor:
    data, axis = a.tensor("data"), a.integer("axis", 0)
    mode = a.choice("mode", ("update", "add"), "add")
    indices = _indices(a, data.shape[axis])
    if mode == "update":
        return data.scatter(axis, indices, a.tensor("updates"))
    return data.scatter_add(axis, indices, a.tensor("updates"))
