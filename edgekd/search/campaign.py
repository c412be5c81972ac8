"""Which graphs to measure for a latency model, within a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np

from edgekd.errors import InputError
from edgekd.progress import Progress, Silent
from edgekd.search.block_times import BlockTimes, corner_blocks, farthest
from edgekd.search.blocks import Block
from edgekd.search.candidate import Candidate
from edgekd.search.graphs import Graph, Measure, TeacherConfigs
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
    """

    seconds: float
    wholes: int = 16
    measurements: int = 60


@dataclass
class MeasureClock:
    """Measures one graph after the other, as long as there is time.

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

    def one(self, graph: Graph, share: float = 1.0, needed: bool = False) -> Measurement | None:
        """A graph's measurement; None: there is no time for it.

        Args:
            share: of the budget's seconds, after which nothing is begun.
            needed: no model can be fitted without it, whatever the budget.
        """
        spent = self.now() - self.started
        ends = spent + self.longest.get(graph.kind, 0.0)
        spare = self.done < self.budget.measurements and ends <= share * self.budget.seconds
        if not spare and not needed:
            return None
        (found,) = self.measure([graph])
        took = self.now() - self.started - spent
        self.longest[graph.kind] = max(took, self.longest.get(graph.kind, 0.0))
        self.done += 1
        return found


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
            found = self.clock.one(graph, needed=True)
            assert found is not None
            self.measured_parts.append(found)
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
        with self.progress.track("measure whole U-Nets", len(archs)) as advance:
            for arch in archs:
                candidate = self.sample[0].model_copy(update={"arch": arch})
                found = self.clock.one(self.configs.unet_graph(candidate))
                if found is None:
                    return False
                self.measured_wholes[arch] = found
                advance(1)
        return True

    def _order(self, model: LatencyModel) -> list[StudentArch]:
        """The largest and the smallest U-Net first; then in turns one that is unlike those before
        it and the next one of the sample, which stands for all."""
        rows = model.work.rows(self.archs)
        points = (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1e-9)
        ends = [int(np.argmax(rows[:, 0])), int(np.argmin(rows[:, 0]))]
        most = min(self.clock.budget.measurements, len(self.archs))
        unlike = farthest(points, list(dict.fromkeys(ends)), most)
        turns = [*ends]
        for index, other in enumerate(unlike[len(set(ends)) :]):
            turns += [index, other]
        return [self.archs[index] for index in dict.fromkeys([*turns, *range(len(self.archs))])]

    def _all(
        self, name: str, graphs: dict[Key, Graph], share: float, needed: int
    ) -> dict[Key, Measurement]:
        """Measurements of graphs: the first `needed`, and as many more as there is time for."""
        found: dict[Key, Measurement] = {}
        with self.progress.track(f"measure {name}", len(graphs)) as advance:
            for key, graph in graphs.items():
                one = self.clock.one(graph, share, needed=len(found) < needed)
                if one is None:
                    missing = len(graphs) - len(found)
                    self.left_out.append(self._budget_line(missing, len(graphs), name))
                    break
                found[key] = one
                advance(1)
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
