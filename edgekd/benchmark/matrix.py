"""What is measured: the rows of a report, their prompts, and everything already measured."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekd.artifacts import PreparedData
from edgekd.benchmark.cache import Cache
from edgekd.benchmark.cases import TORCH, Case, Role
from edgekd.benchmark.drawer import DrawingBatch
from edgekd.benchmark.failures import Failures
from edgekd.benchmark.prompts import Prompts
from edgekd.benchmark.suite import Suite
from edgekd.devices.connect import Connected
from edgekd.devices.listing import LOCAL
from edgekd.files import hash_value
from edgekd.measure.environment import versions
from edgekd.metrics.metric import Metric
from edgekd.processes.ray_pool import Cluster


@dataclass(frozen=True)
class Matrix:
    """What all parts of one benchmark share.

    Attributes:
        cases: each with a generation.
        keys: case name -> hash of what decides its pictures.
        cache: everything already measured.
        failures: of single rows; `runnable` leaves them out.
        devices: the others that rows are measured on.
        cluster: that draws; None: processes of this machine do.
    """

    suite: Suite
    metrics: tuple[Metric, ...]
    cases: tuple[Case, ...]
    keys: dict[str, str]
    data: PreparedData
    prompts: Prompts
    cache: Cache
    failures: Failures
    devices: tuple[Connected, ...] = ()
    cluster: Cluster | None = None

    @property
    def runnable(self) -> tuple[Case, ...]:
        """Rows that this machine can draw, without those that have failed until now."""
        return tuple(
            case
            for case in self.cases
            if not case.not_executed and case.name not in self.failures.reasons
        )

    @property
    def timed(self) -> tuple[Case, ...]:
        """Rows whose times and memory are those of their runtime, where this machine is to be
        measured."""
        if LOCAL not in self.suite.devices:
            return ()
        return tuple(case for case in self.runnable if not case.evaluated)

    @functools.cached_property
    def _drawing(self) -> str:
        """Hash of all but the case itself that decides its pictures."""
        quality = self.suite.quality
        return hash_value(
            [
                [quality.seed, quality.batch_size],
                [self.data.key, self.data.resolution, self.prompts.captions],
                versions(),
            ]
        )

    def drawing_key(self, case: Case) -> str:
        """Hash of all that decides the pictures of a case."""
        return hash_value([self.keys[case.name], self._drawing])

    def batches(self) -> list[range]:
        """Prompt indices of each batch: the same however many workers draw."""
        size, count = self.suite.quality.batch_size, len(self.prompts)
        return [range(start, min(start + size, count)) for start in range(0, count, size)]

    def batch_path(self, case: Case, number: int) -> Path:
        return self.cache.path("pictures", [self.drawing_key(case), number])

    def batch(
        self, case: Case, indices: Sequence[int], threads: int, out: Path | None = None
    ) -> DrawingBatch:
        """The order to draw these prompts."""
        captions = [self.prompts.captions[index] for index in indices]
        seed = self.suite.quality.seed
        return DrawingBatch(case, threads, captions, list(indices), self.data.resolution, seed, out)

    def torch_case(self, role: Role) -> Case | None:
        """The row of a role that others are compared with: torch where there is one."""
        of_role = [case for case in self.runnable if case.role == role]
        return min(of_role, key=lambda case: case.runtime != TORCH, default=None)

    def original(self, case: Case) -> Case | None:
        """The torch row of the folder that an exported case was made from, drawn as it is."""
        if case.runtime == TORCH or case.source is None:
            return None
        same = [one for one in self.runnable if one.runtime == TORCH and one.path == case.source]
        return next((one for one in same if one.generation == case.generation), None)
