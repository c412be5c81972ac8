"""Fit a `StudentArch` to its teacher: fill in what it leaves open and check the rest.

What a stock `UNet2DConditionModel` config can say (diffusers 0.35 to 0.39)
decides what is accepted:

- the up block of a stage has one pair more than its down block;
- a down block may have no pair at all where the stage keeps the width of the
  one before it;
- the depth of transformers is free for every pair (`transformer_layers_per_block`
  with `reverse_transformer_layers_per_block`), but the mid block has the depth
  of the first down pair of the last stage, where that attends;
- heads are counted per stage, and the mid block has those of the last stage;
- a mid block that does not attend is a single residual block;
- the feed-forward's inner width is four times the stage's width.

Stages are counted from the outermost, for the student and the teacher alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from edgekd.errors import InputError
from edgekd.student.arch import Indices, StageArch, StudentArch
from edgekd.student.shape import UNetShape, read_shape


@dataclass(frozen=True)
class Pair:
    """A kept residual+attention pair.

    Attributes:
        index: the pair in the teacher's block.
        blocks: its kept transformer blocks; empty: no attention.
    """

    index: int
    blocks: Indices


@dataclass(frozen=True)
class StagePlan:
    """One stage of the student, with nothing left open."""

    width: int
    down: tuple[Pair, ...]
    up: tuple[Pair, ...]

    @property
    def attends(self) -> bool:
        return any(pair.blocks for pair in self.down + self.up)


@dataclass(frozen=True)
class UpInput:
    """Stages whose channels an up pair reads: `main` from below, `skip` from the down path."""

    main: int
    skip: int


@dataclass(frozen=True)
class StudentPlan:
    """A checked student of a teacher.

    Attributes:
        mid: kept transformer blocks of the mid block; none of them: it is its first residual block
            alone; None: there is no mid block.
    """

    teacher: UNetShape
    stages: tuple[StagePlan, ...]
    mid: Indices | None

    @property
    def last(self) -> int:
        """The student's innermost stage."""
        return len(self.stages) - 1

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads per stage: heads are dropped whole, their size is the teacher's."""
        heads = []
        for s, stage in enumerate(self.stages):
            if stage.attends:
                heads.append(stage.width // self.teacher.head_size(s))
            elif self.mid and s == self.last:
                heads.append(stage.width // self.teacher.head_size(self.teacher.stages - 1))
            else:
                heads.append(self.teacher.heads[s])
        return tuple(heads)

    def up_inputs(self, s: int, i: int) -> tuple[UpInput, UpInput]:
        """What up pair `i` of stage `s` reads in the student, and its pair in the teacher."""
        pairs = self.stages[s].up
        student = _up_input(s, i, len(pairs), self.last)
        index = pairs[i].index
        return student, _up_input(s, index, len(self.teacher.up[s]), self.teacher.stages - 1)


def _up_input(s: int, pair: int, pairs: int, last: int) -> UpInput:
    return UpInput(
        main=min(s + 1, last) if pair == 0 else s,
        skip=max(s - 1, 0) if pair == pairs - 1 else s,
    )


def plan_student(arch: StudentArch, teacher_config: Mapping[str, Any]) -> StudentPlan:
    """Fit an arch to its teacher.

    Raises:
        InputError: the teacher has no such part, a stock config cannot say it, or a student
            tensor would have no teacher tensor to inherit from.
    """
    shape = read_shape(teacher_config)
    if len(arch.stages) > shape.stages:
        raise InputError(
            f"the student may have at most the teacher's {shape.stages} stages",
            str(len(arch.stages)),
        )
    stages = tuple(_stage(stage, s, shape) for s, stage in enumerate(arch.stages))
    plan = StudentPlan(shape, stages, _mid(arch, shape))
    for s in range(len(stages)):
        _check_down(plan, s)
        _check_up(plan, s)
    if plan.mid is not None:
        _check_mid(plan, plan.mid)
    return plan


def to_arch(plan: StudentPlan) -> StudentArch:
    """The explicit arch of a plan."""
    stages = tuple(
        StageArch(
            width=stage.width,
            down=tuple(pair.index for pair in stage.down),
            up=tuple(pair.index for pair in stage.up),
            down_transformers=tuple(pair.blocks for pair in stage.down),
            up_transformers=tuple(pair.blocks for pair in stage.up),
        )
        for stage in plan.stages
    )
    return StudentArch(stages=stages, mid=plan.mid is not None, mid_transformers=plan.mid)


def _stage(stage: StageArch, s: int, shape: UNetShape) -> StagePlan:
    where = f"stages[{s}]"
    down = _pairs(stage.down, stage.down_transformers, shape.down[s], f"{where}.down")
    up = _pairs(stage.up, stage.up_transformers, shape.up[s], f"{where}.up")
    if len(up) != len(down) + 1:
        raise InputError(
            f"`{where}.up` must keep one pair more than `{where}.down`",
            f"down={[pair.index for pair in down]}, up={[pair.index for pair in up]}",
        )
    return StagePlan(_width(stage.width, s, shape), down, up)


def _width(width: int | None, s: int, shape: UNetShape) -> int:
    teacher = shape.widths[s]
    if width is None:
        return teacher
    if s == 0 and width != teacher:
        # The first stage's width is the length of the sinusoid that `time_embedding` reads.
        raise InputError(
            f"stage 0 must keep its width of {teacher}, the time embedding hangs on it",
            str(width),
        )
    if not 1 <= width <= teacher or width % shape.groups:
        raise InputError(
            f"the width of stage {s} must be at most {teacher} and a multiple of "
            f"the {shape.groups} GroupNorm groups",
            str(width),
        )
    return width


def _pairs(
    kept: Indices | None,
    transformers: tuple[Indices, ...] | None,
    depths: tuple[int, ...],
    where: str,
) -> tuple[Pair, ...]:
    """Kept pairs of one block; `depths` are the teacher's transformer depths of all its pairs."""
    indices = _kept(kept, len(depths), where)
    if transformers is None:
        return tuple(Pair(index, tuple(range(depths[index]))) for index in indices)
    if len(transformers) != len(indices):
        raise InputError(
            f"`{where}_transformers` must have one list for each of {len(indices)} kept pairs",
            str(len(transformers)),
        )
    blocks = tuple(
        _kept(item, depths[index], f"{where}_transformers[{i}]")
        for i, (index, item) in enumerate(zip(indices, transformers, strict=True))
    )
    if any(blocks) and not all(blocks):
        raise InputError(
            f"`{where}_transformers` must keep a block in every pair or in none",
            str([list(item) for item in blocks]),
        )
    return tuple(Pair(index, item) for index, item in zip(indices, blocks, strict=True))


def _kept(kept: Indices | None, count: int, where: str) -> Indices:
    if kept is None:
        return tuple(range(count))
    rising = all(a < b for a, b in pairwise(kept))
    if not rising or not set(kept) <= set(range(count)):
        raise InputError(
            f"`{where}` must be rising indices out of {list(range(count))}", str(list(kept))
        )
    return kept


def _mid(arch: StudentArch, shape: UNetShape) -> Indices | None:
    if not arch.mid:
        return None
    if shape.mid is None:
        raise InputError("`mid` must be false for a teacher without a mid block", "true")
    return _kept(arch.mid_transformers, shape.mid, "mid_transformers")


def _check_down(plan: StudentPlan, s: int) -> None:
    stage, shape, previous = plan.stages[s], plan.teacher, max(s - 1, 0)
    kept = [pair.index for pair in stage.down]
    if shape.widths[s] != shape.widths[previous] and 0 not in kept:
        raise InputError(
            f"`stages[{s}].down` must keep pair 0, which changes the width from "
            f"{shape.widths[previous]} to {shape.widths[s]}",
            str(kept),
        )
    if not kept and stage.width != plan.stages[previous].width:
        raise InputError(
            f"`stages[{s}].down` may be empty only at the width of stage {previous}",
            f"widths {plan.stages[previous].width} and {stage.width}",
        )
    if stage.attends and stage.width % shape.head_size(s):
        raise InputError(
            f"the width of stage {s} must be whole heads of {shape.head_size(s)} channels",
            str(stage.width),
        )


def _check_up(plan: StudentPlan, s: int) -> None:
    """An up pair must find as many input channels in its teacher's pair as it needs."""
    for i, pair in enumerate(plan.stages[s].up):
        student, teacher = plan.up_inputs(s, i)
        for mine, theirs in ((student.main, teacher.main), (student.skip, teacher.skip)):
            needed, offered = plan.stages[mine].width, plan.teacher.widths[theirs]
            if needed > offered:
                raise InputError(
                    f"pair {pair.index} in `stages[{s}].up` must have the {needed} input "
                    "channels that the student needs at its place",
                    str(offered),
                    "Keep the first and the last pair of the up block.",
                )


def _check_mid(plan: StudentPlan, mid: Indices) -> None:
    stage, shape = plan.stages[plan.last], plan.teacher
    innermost = shape.stages - 1
    size = shape.head_size(innermost)
    if stage.width > shape.widths[innermost]:
        raise InputError(
            "the teacher's mid block must be as wide as the student's last stage",
            f"{shape.widths[innermost]} and {stage.width}",
            "Set `mid: false`.",
        )
    if not mid:
        return
    if stage.width % size or (stage.attends and shape.head_size(plan.last) != size):
        raise InputError(
            f"the mid block needs the student's last stage in heads of {size} channels",
            f"width {stage.width} in heads of {shape.head_size(plan.last)}",
            "Set `mid: false`.",
        )
    first = stage.down[0].blocks if stage.down else ()
    if first and len(first) != len(mid):
        raise InputError(
            "`mid_transformers` must keep as many blocks as the first down pair of the last "
            "stage, a stock config has one number for both",
            f"{len(mid)} and {len(first)}",
        )
