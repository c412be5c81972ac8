"""What a candidate's U-Net is made of, as the row of features that its cost is told from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekd.search.block_times import F64, BlockTimes
from edgekd.search.blocks import Block, unet_blocks
from edgekd.search.graphs import TeacherConfigs
from edgekd.student.arch import Indices, StudentArch
from edgekd.student.plan import Pair, StagePlan, StudentPlan, plan_student
from edgekd.student.shape import UNetShape, read_shape

# Columns of a row: the sum of all blocks' times, the sums by kind, and counts.
COLUMNS = ("sum", "residual", "transformer", "sampler", "ends", "blocks", "parameters")
_COLUMN = {
    "residual": 1,
    "transformer": 2,
    "downsampler": 3,
    "upsampler": 3,
    "stem": 4,
    "head": 4,
}
PARAMETERS = 6
_MILLION = 1e6


def explicit_plan(arch: StudentArch, shape: UNetShape, config: Mapping[str, Any]) -> StudentPlan:
    """The plan of an arch. One that leaves nothing open, as those of candidates, was checked when
    it was made: it is taken as it is, in a fifth of the time.

    Raises:
        InputError: see `edgekd.student.plan.plan_student`.
    """
    stages = []
    for stage in arch.stages:
        if stage.width is None or (arch.mid and arch.mid_transformers is None):
            return plan_student(arch, config)
        down = _pairs(stage.down, stage.down_transformers)
        up = _pairs(stage.up, stage.up_transformers)
        if down is None or up is None:
            return plan_student(arch, config)
        stages.append(StagePlan(stage.width, down, up))
    return StudentPlan(shape, tuple(stages), arch.mid_transformers)


def _pairs(
    indices: Indices | None, transformers: tuple[Indices, ...] | None
) -> tuple[Pair, ...] | None:
    """None: something is left open."""
    if indices is None or transformers is None:
        return None
    return tuple(map(Pair, indices, transformers))


@dataclass(frozen=True)
class UNetWork:
    """Features of U-Nets of one teacher."""

    configs: TeacherConfigs
    times: BlockTimes
    _shapes: list[UNetShape] = field(default_factory=list)
    _contributions: dict[Block, F64] = field(default_factory=dict)

    def row(self, arch: StudentArch) -> F64:
        """The features of a U-Net, in the order of `COLUMNS`."""
        total = np.zeros(len(COLUMNS))
        for block, count in self.blocks(arch).items():
            total += self._contribution(block) * count
        return total

    def rows(self, archs: list[StudentArch]) -> F64:
        """One row for each arch."""
        return np.array([self.row(arch) for arch in archs]).reshape(len(archs), len(COLUMNS))

    def blocks(self, arch: StudentArch) -> Mapping[Block, int]:
        """The blocks of a U-Net, and how often it has each."""
        if not self._shapes:
            self._shapes.append(read_shape(self.configs.unet))
        plan = explicit_plan(arch, self._shapes[0], self.configs.unet)
        return unet_blocks(plan, self.configs.latent_size, self.configs.tokens)

    def _contribution(self, block: Block) -> F64:
        if block not in self._contributions:
            row, time = np.zeros(len(COLUMNS)), self.times(block)
            row[0] = row[_COLUMN[block.kind]] = time
            row[5:] = 1, block.sizes.parameters / _MILLION
            self._contributions[block] = row
        return self._contributions[block]
