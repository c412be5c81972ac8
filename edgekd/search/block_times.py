"""The time of any block, from the measured times of a few.

Widths make too many blocks to measure each. Those of one kind, map and depth differ in their widths
alone: a few of them are measured, corners of what occurs, and the others are interpolated in their
multiply-accumulates and in the elements that they move,

    t = a + b macs + c elements,    a, b, c >= 0,

by least squares of the relative error. A block that was measured has its own time. Where a group
has too few measurements for that, the fit of all blocks of its kind is scaled to those it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError
from edgekd.search.blocks import Block, BlockKind, Sizes

F64 = npt.NDArray[np.float64]
Group = tuple[BlockKind, int, int, int]
_UNIT = 1e6  # of MACs, elements and parameters: keeps the columns of a fit of one size
_OWN_FIT = 3  # measurements from which a group has a fit of its own
# Corners of a group: residual blocks have two widths, the others one.
_CORNERS = {"residual": 4, "transformer": 3}
_OTHER_CORNERS = 2


def group_of(block: Block) -> Group:
    """Blocks that differ in their widths alone are of one group."""
    return block.kind, block.height, block.width, block.depth


def corner_blocks(blocks: Iterable[Block]) -> list[Block]:
    """Blocks to measure: of each group those that lie farthest apart in MACs and elements.

    First come the largest of all groups, one of each kind before all others, then the smallest, and
    so on: whoever stops early has something of every kind, or of every group.
    """
    groups: dict[Group, list[Block]] = {}
    for block in sorted(set(blocks), key=lambda one: one.model_dump_json()):
        groups.setdefault(group_of(block), []).append(block)
    ranked: list[tuple[int, Block]] = []
    kinds: set[BlockKind] = set()
    for group, members in groups.items():
        count = _CORNERS.get(group[0], _OTHER_CORNERS)
        points = np.log([[one.sizes.macs, one.sizes.elements] for one in members])
        start = int(np.argmax(points.sum(axis=1)))
        chosen = farthest(points, [start], min(count, len(members)))
        start_rank = 1 if group[0] in kinds else 0  # the first of a kind has rank 0 alone
        kinds.add(group[0])
        ranks = [start_rank, *range(2, len(chosen) + 1)]
        ranked += [(rank, members[index]) for rank, index in zip(ranks, chosen, strict=True)]
    return [block for _, block in sorted(ranked, key=lambda item: item[0])]


def farthest(points: F64, chosen: Sequence[int], count: int) -> list[int]:
    """Extend a choice of rows to `count`, each the row farthest from all chosen before (Gonzalez
    1985); rows that lie on chosen ones are left out."""
    found = list(chosen)
    distance = np.full(len(points), np.inf)
    for index in found:
        distance = np.minimum(distance, np.linalg.norm(points - points[index], axis=1))
    while len(found) < count:
        index = int(np.argmax(distance))
        if distance[index] == 0:
            break
        found.append(index)
        distance = np.minimum(distance, np.linalg.norm(points - points[index], axis=1))
    return found


def relative_least_squares(rows: F64, values: F64) -> F64:
    """Coefficients c >= 0 with the least sum of (rows c / values - 1)^2."""
    from scipy.optimize import nnls

    found: F64 = nnls(rows / values[:, None], np.ones(len(values)))[0]
    return found


@dataclass(frozen=True)
class BlockTimes:
    """Times of blocks in ms.

    Attributes:
        measured: of the blocks that were measured.
        groups: coefficients of a group's own fit.
        kinds: coefficients of a kind's fit, over all groups, with parameters as a fourth column.
        scales: of a group without a fit of its own, what its kind's fit is multiplied by.
        everything: of all measured blocks, for kinds of which there was no time to measure one.
    """

    measured: Mapping[Block, float]
    groups: Mapping[Group, F64]
    kinds: Mapping[BlockKind, F64]
    scales: Mapping[Group, float]
    everything: F64 | None = None
    _known: dict[Block, float] = field(default_factory=dict)

    @classmethod
    def fit(cls, measured: Mapping[Block, float]) -> BlockTimes:
        """Fit the groups and kinds of the measured blocks."""
        groups, kinds, scales = {}, {}, {}
        for kind in {block.kind for block in measured}:
            kinds[kind] = _fit([b for b in measured if b.kind == kind], measured, _kind_row)
        for group in {group_of(block) for block in measured}:
            members = [block for block in measured if group_of(block) == group]
            if len(members) >= _OWN_FIT:
                groups[group] = _fit(members, measured, _group_row)
            else:
                ratios = [measured[b] / float(_kind_row(b.sizes) @ kinds[b.kind]) for b in members]
                scales[group] = float(np.median(ratios))
        everything = _fit(list(measured), measured, _kind_row) if measured else None
        return cls(dict(measured), groups, kinds, scales, everything)

    def __call__(self, block: Block) -> float:
        """Time of a block.

        Raises:
            InputError: no block was measured at all.
        """
        if block not in self._known:
            found = self.measured.get(block)
            self._known[block] = self._interpolated(block) if found is None else found
        return self._known[block]

    def _interpolated(self, block: Block) -> float:
        group = group_of(block)
        if group in self.groups:
            return float(_group_row(block.sizes) @ self.groups[group])
        coefficients = self.kinds.get(block.kind, self.everything)
        if coefficients is None:
            raise InputError("a block must be measured before a U-Net's time is told", "none")
        return float(_kind_row(block.sizes) @ coefficients) * self.scales.get(group, 1.0)


def _group_row(sizes: Sizes) -> F64:
    return np.array([1.0, sizes.macs / _UNIT, sizes.elements / _UNIT])


def _kind_row(sizes: Sizes) -> F64:
    return np.array([*_group_row(sizes), sizes.parameters / _UNIT])


def _fit(blocks: list[Block], measured: Mapping[Block, float], row: Callable[[Sizes], F64]) -> F64:
    rows = np.array([row(block.sizes) for block in blocks])
    return relative_least_squares(rows, np.array([measured[block] for block in blocks]))
