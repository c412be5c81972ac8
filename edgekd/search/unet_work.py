"""What a candidate's U-Net is made of, as the row of features that its cost is told from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekd.search.block_times import F64, BlockTimes
from edgekd.search.blocks import Block, stage_blocks, unet_blocks
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
    """Features of U-Nets of one teacher.

    They are sums over stages, which many candidates have in common: each is walked once.
    """

    configs: TeacherConfigs
    times: BlockTimes
    _shapes: list[UNetShape] = field(default_factory=list)
    _stages: dict[Hashable, F64] = field(default_factory=dict)

    def row(self, arch: StudentArch) -> F64:
        """The features of a U-Net, in the order of `COLUMNS`."""
        total, stages, last = np.zeros(len(COLUMNS)), arch.stages, len(arch.stages) - 1
        for s, stage in enumerate(stages):
            around = (stages[max(s - 1, 0)].width, stages[min(s + 1, last)].width)
            mid = (arch.mid, arch.mid_transformers) if s == last else None
            key = (s, stage, around, mid)
            if key not in self._stages:
                self._stages[key] = self._stage(arch, s)
            total += self._stages[key]
        return total

    def rows(self, archs: list[StudentArch]) -> F64:
        """One row for each arch."""
        return np.array([self.row(arch) for arch in archs]).reshape(len(archs), len(COLUMNS))

    def blocks(self, arch: StudentArch) -> Counter[Block]:
        """The blocks of a U-Net, and how often it has each."""
        return unet_blocks(self._plan(arch), self.configs.latent_size, self.configs.tokens)

    def _plan(self, arch: StudentArch) -> StudentPlan:
        if not self._shapes:
            self._shapes.append(read_shape(self.configs.unet))
        return explicit_plan(arch, self._shapes[0], self.configs.unet)

    def _stage(self, arch: StudentArch, s: int) -> F64:
        configs, total = self.configs, np.zeros(len(COLUMNS))
        for block, count in stage_blocks(
            self._plan(arch), s, configs.latent_size, configs.tokens
        ).items():
            time = self.times(block) * count
            total[0] += time
            total[_COLUMN[block.kind]] += time
            total[5] += count
            total[PARAMETERS] += count * block.sizes.parameters / _MILLION
        return total
