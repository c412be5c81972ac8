"""What one stage of a student may be: its pairs, its attention, its depth and its width.

The first and the last pair of an up block always stay: they are the ones that find, in the
teacher's pairs, as many input channels as the student has at their places
(`edgekd.student.plan`). With a single pair, which is then both, the first one does.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import lcm
from typing import NamedTuple

from edgekd.student.arch import Indices, StageArch
from edgekd.student.resolve import evenly_spaced
from edgekd.student.shape import UNetShape

# Blocks of more pairs than this offer one layout for each number of pairs, evenly spaced: all
# subsets of six pairs would be some 700 layouts of one stage.
ENUMERATED_PAIRS = 3


class StagePairs(NamedTuple):
    """Kept pairs of the down and the up block."""

    down: Indices
    up: Indices

    def label(self) -> str:
        """`0 1 | 0 1 2`; `- | 0` without a down pair."""
        return f"{' '.join(map(str, self.down)) or '-'} | {' '.join(map(str, self.up))}"


class StageChoice(NamedTuple):
    """A choice for each dimension of a stage.

    Attributes:
        pairs: a label of `StagePairs`.
        attention: `both`, `up`, `down` or `none`: the blocks that attend.
        depth: most transformer blocks of a pair; a pair that has fewer keeps all.
        width: channels; a stage without a down pair takes those of the stage before it.
    """

    pairs: str
    attention: str
    depth: int
    width: int


@dataclass(frozen=True)
class StageOptions:
    """The choices of a stage, the teacher's own first and the cheapest last."""

    pairs: dict[str, StagePairs]
    attention: tuple[str, ...]
    depths: tuple[int, ...]
    widths: tuple[int, ...]


def stage_options(shape: UNetShape, s: int, width_shares: tuple[float, ...]) -> StageOptions:
    """What stage `s` of a teacher's students may be."""
    layouts = _layouts(len(shape.down[s]), _empties(shape, s), _keeps_first(shape, s))
    depths = [*shape.down[s], *shape.up[s]]
    if s == shape.stages - 1 and shape.mid is not None:
        depths.append(shape.mid)
    return StageOptions(
        {layout.label(): layout for layout in layouts},
        _attention(any(shape.down[s]), any(shape.up[s])),
        _depths(max(depths)),
        _widths(shape, s, width_shares),
    )


def stage_arch(shape: UNetShape, s: int, pairs: StagePairs, choice: StageChoice) -> StageArch:
    """The stage that was chosen, every field explicit."""

    def blocks(kept: Indices, depths: tuple[int, ...], attends: bool) -> tuple[Indices, ...]:
        return tuple(
            evenly_spaced(depths[i], min(depths[i], choice.depth) if attends else 0) for i in kept
        )

    down, up = choice.attention in ("both", "down"), choice.attention in ("both", "up")
    return StageArch(
        width=choice.width,
        down=pairs.down,
        up=pairs.up,
        down_transformers=blocks(pairs.down, shape.down[s], down),
        up_transformers=blocks(pairs.up, shape.up[s], up),
    )


def attention_of(stage: StageArch) -> str:
    """Which blocks of an explicit stage attend."""
    down, up = any(stage.down_transformers or ()), any(stage.up_transformers or ())
    return {(True, True): "both", (False, True): "up", (True, False): "down"}.get(
        (down, up), "none"
    )


def kept_blocks(shape: UNetShape, s: int, stage: StageArch) -> list[tuple[int, Indices]]:
    """The teacher's depth and the kept blocks of each pair of a stage that attends."""
    sides = (
        (shape.down[s], stage.down, stage.down_transformers),
        (shape.up[s], stage.up, stage.up_transformers),
    )
    return [
        (depths[i], blocks)
        for depths, pairs, transformers in sides
        for i, blocks in zip(pairs or (), transformers or (), strict=False)
        if blocks
    ]


def width_unit(shape: UNetShape, s: int) -> int:
    """Channels that a stage keeps or drops together: whole heads and GroupNorm groups.

    A stage that does not attend itself may have widths that the mid block's heads do not
    divide; such a student has no mid block. Where nothing but the mid block attends it must
    always fit.
    """
    only_mid = not any(map(shape.has_attention, range(shape.stages)))
    carries_mid = only_mid and bool(shape.mid) and s == shape.stages - 1
    if shape.has_attention(s) or carries_mid:
        return lcm(shape.groups, shape.head_size(s))
    return shape.groups


def _keeps_first(shape: UNetShape, s: int) -> bool:
    """Whether pair 0 of the down block changes the width, which no other pair can."""
    return s > 0 and shape.widths[s] != shape.widths[s - 1]


def _empties(shape: UNetShape, s: int) -> bool:
    """Whether a down block may be empty.

    The stage then takes the width of the one before it, which must be legal for both, and it
    must be able to attend if its teacher does.
    """
    same_units = s == 0 or width_unit(shape, s - 1) % width_unit(shape, s) == 0
    still_attends = any(shape.up[s]) or not any(shape.down[s])
    return not _keeps_first(shape, s) and same_units and still_attends


def _layouts(pairs: int, empties: bool, keeps_first: bool) -> list[StagePairs]:
    """Layouts of a stage of `pairs` down pairs, most pairs first."""
    found = []
    for kept in range(pairs, -1 if empties or pairs == 0 else 0, -1):
        if kept == 0:
            found.append(StagePairs((), (0,)))
        elif pairs > ENUMERATED_PAIRS:
            found.append(StagePairs(evenly_spaced(pairs, kept), evenly_spaced(pairs + 1, kept + 1)))
        else:
            downs = [
                down
                for down in combinations(range(pairs), kept)
                if 0 in down or not keeps_first
            ]  # fmt: skip
            inner = combinations(range(1, pairs), kept - 1)
            ups = [(0, *between, pairs) for between in inner]
            found.extend(StagePairs(down, up) for down in downs for up in ups)
    return found


def _attention(down: bool, up: bool) -> tuple[str, ...]:
    """The up block has one pair more: to attend there alone costs more than in the down block."""
    if down and up:
        return ("both", "up", "down", "none")
    return (("down" if down else "up"), "none") if down or up else ("none",)


def _depths(most: int) -> tuple[int, ...]:
    """All, half and a quarter of the blocks, and one; 1 for a stage without transformers."""
    shares = (most, -(-most // 2), -(-most // 4), 1)
    return tuple(sorted({max(depth, 1) for depth in shares}, reverse=True))


def _widths(shape: UNetShape, s: int, shares: tuple[float, ...]) -> tuple[int, ...]:
    """Shares of the teacher's width, rounded to whole units; stage 0 keeps its width."""
    width, unit = shape.widths[s], width_unit(shape, s)
    rounded = {max(round(share * width / unit), 1) * unit for share in shares if s > 0}
    return tuple(sorted(rounded | {width}, reverse=True))
