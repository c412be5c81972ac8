"""Where every student tensor comes from.

A student tensor is its teacher's tensor with some entries left out along some
axes. Nothing is averaged, merged or made up, with one exception: where stages
of equal width get different widths, the student needs a shortcut convolution
that the teacher does without, because its shortcut is the identity. The
student's is then cut out of that identity.

The reverse happens too: a stage narrowed to the width of the one before it has
no shortcut convolution in a stock config, and the teacher's is left out. That
student starts far from its teacher: prefer widths that differ where the
teacher's do.

Every GroupNorm group keeps equally many channels. Norms over a concatenation
are the exception: their groups span both halves and are cut anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from edgekd.student.arch import StudentArch
from edgekd.student.importance import Importance
from edgekd.student.layout import IDENTITY, Axis, Layer, Space, unet_layers
from edgekd.student.plan import plan_student

ZEROS = "(zeros)"  # the bias of an identity shortcut


class TensorSource(NamedTuple):
    """A student tensor's origin.

    Attributes:
        tensor: the teacher's tensor, or `IDENTITY` or `ZEROS`.
        kept: per dimension the kept entries, rising, or None for all of them.
    """

    tensor: str
    kept: tuple[Tensor | None, ...]


def tensor_map(
    arch: StudentArch, teacher_config: Mapping[str, Any], importance: Importance | None = None
) -> dict[str, TensorSource]:
    """The source of every tensor of the student's state dict.

    Args:
        importance: teacher tensor name to a tensor of its shape, non-negative; needed only if
            some channels must be chosen. See `edgekd.student.importance`.

    Raises:
        InputError: see `edgekd.student.plan.plan_student`.
        ValueError: channels must be chosen and there is no importance, or it is not finite.
    """
    layers = list(unet_layers(plan_student(arch, teacher_config)))
    kept = _choose(layers, importance)
    sources = {}
    for layer in layers:
        identity = layer.source == IDENTITY
        index = tuple(_axis_index(axis, kept, explicit=identity) for axis in layer.axes)
        weight = IDENTITY if identity else f"{layer.source}.weight"
        sources[f"{layer.name}.weight"] = TensorSource(weight, index)
        if layer.bias:
            bias = ZEROS if identity else f"{layer.source}.bias"
            sources[f"{layer.name}.bias"] = TensorSource(bias, index[:1])
    return sources


def inherit(source: TensorSource, teacher: Mapping[str, Tensor]) -> Tensor:
    """A student tensor cut out of the teacher's state dict; never a view of it."""
    if source.tensor in (IDENTITY, ZEROS):
        like = next(iter(teacher.values()))
        sizes = [index for index in source.kept if index is not None]
        if source.tensor == ZEROS:
            return torch.zeros(len(sizes[0]), dtype=like.dtype, device=like.device)
        rows, columns = sizes[:2]
        square = (rows[:, None] == columns[None, :]).to(like.device, like.dtype)
        return square[:, :, None, None]
    value = teacher[source.tensor].detach()
    for dim, index in enumerate(source.kept):
        if index is not None:
            value = value.index_select(dim, index.to(value.device))
    return value.clone(memory_format=torch.contiguous_format)


def _axis_index(axis: Axis, kept: Mapping[str, Tensor], explicit: bool) -> Tensor | None:
    """Kept entries of an axis of one or more spaces side by side."""
    if not explicit and all(space.teacher == space.student for space in axis):
        return None
    parts, offset = [], 0
    for space in axis:
        whole = space.teacher == space.student
        parts.append((torch.arange(space.teacher) if whole else kept[space.name]) + offset)
        offset += space.teacher
    return torch.cat(parts)


def _choose(layers: list[Layer], importance: Importance | None) -> dict[str, Tensor]:
    """Kept entries of every space that the student narrows."""
    narrowed = {
        space.name: space
        for layer in layers
        for axis in layer.axes
        for space in axis
        if space.student < space.teacher
    }
    if not narrowed:
        return {}
    if importance is None:
        raise ValueError(
            "`importance` must be given where channels are chosen, but got None for "
            + ", ".join(sorted(narrowed)[:3])
        )
    scores = _scores(layers, importance, {space.pool for space in narrowed.values()})
    if not all(torch.isfinite(score).all() for score in scores.values()):
        raise ValueError("`importance` must be finite, but got NaN or infinity")
    return {name: select(scores[space.pool], space) for name, space in narrowed.items()}


def _scores(layers: list[Layer], importance: Importance, pools: set[str]) -> dict[str, Tensor]:
    """Summed importance of the weights that each channel of a pool touches."""
    scores: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64))
    for name, axes in _tensors(layers):
        value = importance[name]
        for dim, axis in enumerate(axes):
            if not any(space.pool in pools for space in axis):
                continue
            others = [d for d in range(value.dim()) if d != dim]
            exact = value.cpu().double()
            line = exact.sum(dim=others) if others else exact
            parts = torch.split(line, [space.teacher for space in axis])
            for space, part in zip(axis, parts, strict=True):
                scores[space.pool] = scores[space.pool] + part
    return scores


def _tensors(layers: list[Layer]) -> Iterator[tuple[str, tuple[Axis, ...]]]:
    for layer in layers:
        if layer.source != IDENTITY:
            yield f"{layer.source}.weight", layer.axes
            if layer.bias:
                yield f"{layer.source}.bias", layer.axes[:1]


def select(score: Tensor, space: Space) -> Tensor:
    """The best entries of a space, rising; ties go to the lower index.

    Args:
        score: [teacher], one number per channel.

    Returns:
        [student] int64. Units are kept whole, and every GroupNorm group keeps equally many.
    """
    units = space.teacher // space.unit
    per_group = units // space.groups
    keep = space.student // space.unit // space.groups
    rows = score.reshape(space.groups, per_group, space.unit).sum(dim=2)
    best = rows.argsort(dim=1, descending=True, stable=True)[:, :keep].sort(dim=1).values
    chosen = (best + per_group * torch.arange(space.groups)[:, None]).reshape(-1)
    channels = chosen[:, None] * space.unit + torch.arange(space.unit)
    return channels.reshape(-1)
