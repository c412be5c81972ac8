"""This machine as a device: every figure comes from fresh processes, bounded where that is asked
for. An agent measures with it what its host sends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TypeVar

from edgekd.devices.describe import default_name, describe
from edgekd.devices.orders import CheckJob, PictureSettings, Point
from edgekd.devices.process import Bounds, EndedError, Measuring
from edgekd.devices.protocol import ExportFolder, ExportOrder, GraphFolder, GraphOrder
from edgekd.devices.results import (
    CheckResult,
    ExportResult,
    GraphResult,
    GraphResults,
    GraphTimes,
    PeakBytes,
    PointResult,
    RowResult,
    Samples,
    Spans,
)
from edgekd.devices.schema import Description
from edgekd.errors import EdgekdError
from edgekd.measure.check import Check, check
from edgekd.measure.clock import Latency
from edgekd.measure.conditions import conditions, throttled
from edgekd.measure.environment import environment, load_average
from edgekd.measure.exported import weigh
from edgekd.measure.first_picture import draw_first
from edgekd.measure.graph_timing import Rounds, TimedGraph, TimingOrder, time_graph
from edgekd.measure.memory import PeakMemory
from edgekd.measure.picture import Moments, PictureOrder
from edgekd.measure.points import open_points, time_points
from edgekd.measure.speed import Speeds, time_exported

Found = TypeVar("Found")
_OWN = ("timeout", "cancelled")  # ends of a whole job


@dataclass(frozen=True)
class LocalDevice:
    """See `edgekd.devices.protocol.Device`."""

    name: str = field(default_factory=default_name)
    bounds: Bounds = field(default_factory=Bounds)

    def describe(self) -> Description:
        return describe(self.name, None, None)

    def measure_exports(self, order: ExportOrder) -> ExportResult:
        settings = order.settings
        orders = {
            name: _picture_order(row, row.drawing, settings.threads)
            for name, row in order.rows.items()
        }
        rows = {name: RowResult() for name in orders}
        speeds = Speeds(load_average(), None, "not asked for", {}, {})
        if settings.speed is not None:
            with Measuring(settings.threads, self.bounds) as child:
                speeds = child.call(Speeds, time_exported, orders, settings.threads, settings.speed)
        for name in orders:
            found = speeds.timings.get(name, {})
            timings = {part: _samples(latency) for part, latency in found.items()}
            rows[name] = RowResult(timings=timings, failure=speeds.failures.get(name))
        if settings.memory:
            self._each(rows, lambda name: self._weigh(rows[name], orders[name]))
        for _ in range(settings.cold_starts):
            self._each(rows, lambda name: self._start(rows[name], orders[name]))
        return ExportResult(
            environment=environment(),
            load_average=speeds.load_average,
            throttled=speeds.throttled,
            energy_source=speeds.energy_source,
            rows=rows,
            points=self._points(order),
        )

    def measure_graphs(self, order: GraphOrder) -> GraphResults:
        before, found = conditions(), {}
        with contextlib.ExitStack() as stack:
            timer = _Timer(order.settings.threads, self.bounds, stack)
            for name, graph in order.graphs.items():
                with _failing() as failures:
                    timed = timer.time(_timing_order(order, graph), graph.whole)
                    found[name] = GraphResult(times=GraphTimes(**asdict(timed)))
                if failures:
                    found[name] = GraphResult(failure=failures[0])
        slowed = throttled(before, conditions())
        return GraphResults(environment=environment(), throttled=slowed, graphs=found)

    def check(self, job: CheckJob) -> CheckResult:
        with Measuring(job.threads, self.bounds) as child:
            found = child.call(Check, check, job.runs, job.sleep_ms)
        return CheckResult(environment=environment(), **asdict(found))

    def _each(self, rows: dict[str, RowResult], measure: Callable[[str], RowResult]) -> None:
        """Measure every row that has not failed; what fails is that row's."""
        for name, row in rows.items():
            if row.failure is None:
                with _failing() as failures:
                    rows[name] = measure(name)
                if failures:
                    rows[name] = RowResult(failure=failures[0])

    def _weigh(self, row: RowResult, order: PictureOrder) -> RowResult:
        with Measuring(order.threads, self.bounds) as child:
            memory = child.call(PeakMemory, weigh, order)
        return row.model_copy(update={"memory": PeakBytes(**asdict(memory))})

    def _start(self, row: RowResult, order: PictureOrder) -> RowResult:
        started = time.monotonic_ns()
        with Measuring(order.threads, self.bounds) as child:
            spans = child.call(Moments, draw_first, order).spans(started)
        found = Spans(process_ms=spans[0], load_ms=spans[1], first_picture_ms=spans[2])
        return row.model_copy(update={"cold_starts": (*row.cold_starts, found)})

    def _points(self, order: ExportOrder) -> tuple[PointResult, ...]:
        """Every point, in rounds that go through all of them; see `edgekd.benchmark.scaling`."""
        points = order.settings.points
        orders = [_picture_order(order.rows[one.row], one.drawing, one.threads) for one in points]
        samples: dict[int, list[float]] = {place: [] for place in range(len(points))}
        failures: dict[int, str] = {}
        with contextlib.ExitStack() as stack:
            groups = [
                _Points(places, stack.enter_context(Measuring(threads, self.bounds)))
                for threads, places in _by_threads(points).items()
            ]
            for group in groups:
                failures |= group.open(orders)
            for _ in range(order.settings.point_runs if points else 0):
                for group in groups:
                    for place, milliseconds in group.time().items():
                        samples[place].append(milliseconds)
        return tuple(
            self._point(point, orders[place], tuple(samples[place]), failures.get(place))
            for place, point in enumerate(points)
        )

    def _point(
        self, point: Point, order: PictureOrder, samples: tuple[float, ...], failure: str | None
    ) -> PointResult:
        peak = None
        if point.memory and failure is None:
            with _failing() as failures:
                peak = self._weigh(RowResult(), order).memory
            failure = failures[0] if failures else None
        bytes_ = None if peak is None else peak.peak_bytes
        return PointResult(samples_ms=samples, peak_bytes=bytes_, failure=failure)


@dataclass(frozen=True)
class _Points:
    """Points of one number of threads, and the process that holds them open."""

    places: tuple[int, ...]
    child: Measuring

    def open(self, orders: Sequence[PictureOrder]) -> dict[int, str]:
        mine = [orders[place] for place in self.places]
        found = self.child.call(dict[int, str], open_points, mine)
        return {self.places[index]: reason for index, reason in found.items()}

    def time(self) -> dict[int, float]:
        found = self.child.call(dict[int, float], time_points)
        return {self.places[index]: milliseconds for index, milliseconds in found.items()}


@dataclass
class _Timer:
    """Times graphs: blocks in one process for as long as it lives, others in fresh ones."""

    threads: int
    bounds: Bounds
    stack: contextlib.ExitStack
    blocks: Measuring | None = None

    def time(self, order: TimingOrder, whole: bool) -> TimedGraph:
        if whole:
            with Measuring(self.threads, self.bounds) as child:
                return child.call(TimedGraph, time_graph, order)
        if self.blocks is None or self.blocks.process.poll() is not None:
            self.blocks = self.stack.enter_context(Measuring(self.threads, self.bounds))
        found = self.blocks.call(TimedGraph, time_graph, order)
        # A process that had other graphs before says nothing of this one's memory.
        return replace(found, baseline_bytes=0, peak_bytes=0)


@contextlib.contextmanager
def _failing() -> Iterator[list[str]]:
    """Yields a list that holds the error's text afterwards, where there was one that is not the
    whole job's."""
    failures: list[str] = []
    try:
        yield failures
    except EndedError as error:
        if error.reason in _OWN:
            raise
        failures.append(str(error))
    except EdgekdError as error:
        failures.append(str(error))


def _by_threads(points: Sequence[Point]) -> dict[int, tuple[int, ...]]:
    found: dict[int, tuple[int, ...]] = {}
    for place, point in enumerate(points):
        found[point.threads] = (*found.get(point.threads, ()), place)
    return found


def _picture_order(row: ExportFolder, drawing: PictureSettings, threads: int) -> PictureOrder:
    return PictureOrder(
        path=row.folder,
        threads=threads,
        sampler=drawing.sampler,
        steps=drawing.steps,
        guidance_scale=drawing.guidance_scale,
        captions=drawing.captions,
        seeds=drawing.seeds,
        side=drawing.side,
    )


def _timing_order(order: GraphOrder, graph: GraphFolder) -> TimingOrder:
    settings = order.settings
    rounds = Rounds(settings.seconds, settings.batches, settings.known_well)
    return TimingOrder(
        graph.component, graph.folder, order.reference, settings.runtime, settings.precision,
        settings.threads, rounds,
    )  # fmt: skip


def _samples(latency: Latency) -> Samples:
    return Samples(**asdict(latency))
