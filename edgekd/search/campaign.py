"""Which graphs to measure for a latency model, within a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np

from edgekd.errors import InputError
from edgekd.progress import Progress, Silent
from edgekd.search.block_times import BlockTimes, corner_blocks, farthest
from edgekd.search.blocks import Block
from edgekd.search.candidate import Candidate
from edgekd.search.graphs import Graph, GraphKind, Measure, TeacherConfigs
from edgekd.search.latency import LatencyModel, MeasuredSpace
from edgekd.search.measurements import Measurement
from edgekd.search.unet_work import UNetWork
from edgekd.student.arch import StudentArch

Key = TypeVar("Key", bound=Hashable)
_POOL = 512  # candidates that are looked at
_BLOCK_SHARE = 0.5  # of the time, at most; whole graphs decide how good the predictor is
_STEP = 4  # whole U-Nets between two looks at the report


@dataclass(frozen=True)
class MeasureBudget:
    """How much may be measured.

    Attributes:
        seconds: no graph is begun that would probably end after them.
        wholes: whole U-Nets to begin with; more follow only while the report is poor.
        measurements: of all kinds together.
        together: graphs that are handed over at once: a device far away takes them in batches, and
            several devices share one.
    """

    seconds: float
    wholes: int = 16
    measurements: int = 60
    together: int = 1


@dataclass
class MeasureClock:
    """Measures graphs, as long as there is time.

    Attributes:
        now: the clock in seconds.
        longest: seconds that a graph of each kind took, at most.
    """

    measure: Measure
    budget: MeasureBudget
    now: Callable[[], float] = time.monotonic
    longest: dict[str, float] = field(default_factory=dict)
    done: int = 0

    def __post_init__(self) -> None:
        self.started = self.now()

    def each(
        self, graphs: Sequence[Graph], share: float = 1.0, needed: int = 0
    ) -> Iterator[Measurement]:
        """Measurements of graphs of one kind, in order; those that there is no time for are left
        out.

        Args:
            share: of the budget's seconds, after which nothing is begun.
            needed: no model can be fitted without the first so many, whatever the budget.
        """
        given = 0
        while given < len(graphs):
            count = max(self._room(graphs[given].kind, share), needed - given)
            batch = graphs[given : given + min(count, self.budget.together)]
            if not batch:
                return
            started = self.now()
            found = self.measure(batch)
            took = (self.now() - started) / len(batch)
            kind = batch[0].kind
            self.longest[kind] = max(took, self.longest.get(kind, 0.0))
            self.done += len(batch)
            given += len(batch)
            yield from found

    def _room(self, kind: GraphKind, share: float) -> int:
        """Graphs of a kind that the budget has room for; of one that is not known yet, one."""
        left = share * self.budget.seconds - (self.now() - self.started)
        spare = self.budget.measurements - self.done
        if left < 0:
            return 0
        longest = self.longest.get(kind, 0.0)
        return min(spare, int(left / longest) if longest else 1)


def measure_space(
    candidates: Iterable[Candidate],
    configs: TeacherConfigs,
    measure: Measure,
    budget: MeasureBudget,
    progress: Progress | None = None,
) -> LatencyModel:
    """Measure what a space is made of, and fit a model.

    Text encoders and decoders come first, then blocks, then whole U-Nets; more of these while the
    report is poor. A text encoder, a decoder and a block of each kind are measured whatever the
    budget; what it does not reach is named in the report's warnings.

    Args:
        candidates: a random sample of the space, in one precision.
        measure: of the target's runtime, that precision and its threads.

    Raises:
        InputError: no candidates.
    """
    sample = list(islice(candidates, _POOL))
    if not sample:
        raise InputError("a sample of the search space must have candidates", "none")
    campaign = _Campaign(sample, configs, MeasureClock(measure, budget), progress or Silent())
    campaign.parts()
    campaign.blocks()
    return campaign.wholes()


class _Campaign:
    """Holds what was measured so far."""

    def __init__(
        self,
        sample: Sequence[Candidate],
        configs: TeacherConfigs,
        clock: MeasureClock,
        progress: Progress,
    ) -> None:
        self.sample, self.configs = sample, configs
        self.clock, self.progress = clock, progress
        self.archs = list(dict.fromkeys(candidate.arch for candidate in sample))
        self.measured_parts: list[Measurement] = []
        self.measured_decoders: dict[float, Measurement] = {}
        self.measured_blocks: dict[Block, Measurement] = {}
        self.measured_wholes: dict[StudentArch, Measurement] = {}
        self.left_out: list[str] = []

    def parts(self) -> None:
        """Text encoders and every decoder that is offered."""
        for graph in self.configs.text_graphs():
            self.measured_parts += self.clock.each([graph], needed=1)
        widths = sorted({candidate.decoder_width for candidate in self.sample}, reverse=True)
        graphs = {width: self.configs.decoder_graph(width) for width in widths}
        self.measured_decoders = self._all("decoders", graphs, 1.0, needed=1)

    def blocks(self) -> None:
        """Corners of all groups of blocks."""
        work = UNetWork(self.configs, BlockTimes({}, {}, {}, {}))
        distinct = {block for arch in self.archs for block in work.blocks(arch)}
        graphs = {block: self.configs.block_graph(block) for block in corner_blocks(distinct)}
        kinds = len({block.kind for block in graphs})  # the first so many are one of each
        self.measured_blocks = self._all("blocks", graphs, _BLOCK_SHARE, needed=kinds)

    def wholes(self) -> LatencyModel:
        """Whole U-Nets until the report is good or the budget spent."""
        model = self._fit()
        order = self._order(model)
        wanted = min(self.clock.budget.wholes, len(order))
        while len(self.measured_wholes) < wanted:
            batch = order[len(self.measured_wholes) : wanted]
            complete = self._whole_unets(batch)
            if not complete and len(self.measured_wholes) < self.clock.budget.wholes:
                missing = wanted - len(self.measured_wholes)
                self.left_out.append(self._budget_line(missing, wanted, "U-Nets"))
            model = self._fit()
            if complete and model.report.poor:
                wanted = min(wanted + _STEP, len(order))
            elif not complete:
                break
        return model

    def _whole_unets(self, archs: Sequence[StudentArch]) -> bool:
        """Whether the budget had room for all of them."""
        candidates = [self.sample[0].model_copy(update={"arch": arch}) for arch in archs]
        graphs = [self.configs.unet_graph(candidate) for candidate in candidates]
        with self.progress.track("measure whole U-Nets", len(archs)) as advance:
            found = 0
            for arch, one in zip(archs, self.clock.each(graphs), strict=False):
                self.measured_wholes[arch] = one
                found += 1
                advance(1)
        return found == len(archs)

    def _order(self, model: LatencyModel) -> list[StudentArch]:
        """The largest and the smallest U-Net first; then in turns one that is unlike those before
        it and the next one of the sample, which stands for all. Students that differ only in which
        of the teacher's layers they take are one U-Net."""
        rows = model.work.rows(self.archs)
        points = (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1e-9)
        ends = [int(np.argmax(rows[:, 0])), int(np.argmin(rows[:, 0]))]
        most = min(self.clock.budget.measurements, len(self.archs))
        unlike = farthest(points, list(dict.fromkeys(ends)), most)
        turns = [*ends]
        for index, other in enumerate(unlike[len(set(ends)) :]):
            turns += [index, other]
        distinct: dict[bytes, StudentArch] = {}
        for index in [*turns, *range(len(self.archs))]:
            distinct.setdefault(rows[index].round(9).tobytes(), self.archs[index])
        return list(distinct.values())

    def _all(
        self, name: str, graphs: dict[Key, Graph], share: float, needed: int
    ) -> dict[Key, Measurement]:
        """Measurements of graphs: the first `needed`, and as many more as there is time for."""
        found: dict[Key, Measurement] = {}
        measured = self.clock.each(list(graphs.values()), share, needed)
        with self.progress.track(f"measure {name}", len(graphs)) as advance:
            for key, one in zip(graphs, measured, strict=False):
                found[key] = one
                advance(1)
        missing = len(graphs) - len(found)
        if missing:
            self.left_out.append(self._budget_line(missing, len(graphs), name))
        return found

    def _budget_line(self, missing: int, count: int, name: str) -> str:
        budget = self.clock.budget
        limits = f"{budget.seconds:g} s or {budget.measurements} measurements"
        return f"{missing} of {count} {name} were not measured: the budget of {limits} was spent"

    def _fit(self) -> LatencyModel:
        return LatencyModel.fit(
            MeasuredSpace(
                self.configs,
                dict(self.measured_blocks),
                dict(self.measured_wholes),
                self.measured_decoders,
                self.measured_parts,
                tuple(self.left_out),
            )
        )
