"""Time, size and memory of single graphs in a runtime on this machine.

One process converts, with torch (`edgekd.benchmark.graph_convert`); others, without torch, open the
converted graph and time it (`edgekd.measure.graph_timing`).
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from edgekd.errors import InputError
from edgekd.measure.graph_timing import Rounds, TimedGraph, TimingOrder, time_graph, typical
from edgekd.processes.child import Child
from edgekd.processes.scratch import scratch_folder
from edgekd.runtime.registry import runtimes
from edgekd.search.graphs import Graph, Measure, reference_graph
from edgekd.search.measurements import (
    Conditions,
    Keep,
    Measurement,
    MeasurementStore,
    StoredMeasure,
    Timer,
    conditions_here,
)


def summary(timed: TimedGraph, file_bytes: int, reference_ms: float) -> Measurement:
    """A measurement, scaled to a reference that takes `reference_ms`."""
    ratios = np.array(timed.graph_ms) / np.array(timed.reference_ms)
    kept = ratios[typical(ratios)]
    return Measurement(
        latency_ms=float(np.median(kept)) * reference_ms,
        samples_ms=tuple(float(ratio) * reference_ms for ratio in ratios),
        cv=float(kept.std() / kept.mean()),
        outliers=len(ratios) - len(kept),
        drift=float(np.median(timed.reference_ms)) / reference_ms,
        file_bytes=file_bytes,
        baseline_bytes=timed.baseline_bytes,
        peak_bytes=timed.peak_bytes,
    )


class Converter:
    """Converts graphs in a process that lives from graph to graph.

    Attributes:
        folder: for what is converted.
    """

    def __init__(
        self, conditions: Conditions, folder: Path, children: contextlib.ExitStack
    ) -> None:
        self.folder = folder
        self._conditions = conditions
        self._children = children
        self._child: Child | None = None
        self._reference: Path | None = None

    def convert(self, graph: Graph, folder: Path) -> int:
        """Convert a graph into a folder; returns the bytes of its files."""
        if self._child is None:
            child = Child("convert graphs", self._conditions.threads)
            self._child = self._children.enter_context(child)
        from edgekd.benchmark.graph_convert import ConversionOrder, convert_graph

        folder.mkdir(parents=True, exist_ok=True)
        order = ConversionOrder(graph, self._conditions.runtime, self._conditions.precision, folder)
        return self._child.call(convert_graph, order)

    def reference_folder(self) -> Path:
        """The converted reference graph."""
        if self._reference is None:
            folder = self.folder / "reference"
            self.convert(reference_graph(), folder)
            self._reference = folder
        return self._reference


class GraphTimer:
    """A `Timer` for one runtime, precision and number of threads on this machine.

    Its processes live from graph to graph; a whole graph, whose memory is measured too, is timed in
    a new one.

    Attributes:
        reference: how the reference graph's own measurement is had; set before the first graph.
    """

    def __init__(
        self,
        conditions: Conditions,
        folder: Path,
        children: contextlib.ExitStack,
        rounds: Rounds,
    ) -> None:
        self._rounds = rounds
        self._conditions = conditions
        self._children = children
        self._converter = Converter(conditions, folder, children)
        self._timer: Child | None = None
        self.reference: Measurement | None = None

    def __call__(self, graphs: Sequence[Graph], keep: Keep) -> None:
        for graph in graphs:
            keep(graph, self._measure(graph))

    def _measure(self, graph: Graph) -> Measurement:
        folder = self._converter.folder / graph.key()[:16]
        size = self._converter.convert(graph, folder)
        try:
            reference = self._converter.reference_folder()
            order = TimingOrder(
                graph.component, folder, reference, self._conditions.runtime,
                self._conditions.precision, self._conditions.threads, self._rounds,
            )  # fmt: skip
            timed = self._time_block(order) if graph.block else self._time_whole(order)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if self.reference is not None:
            return summary(timed, size, self.reference.latency_ms)
        # The reference itself, the first time: its unit is what it takes now.
        return summary(timed, size, float(np.median(timed.reference_ms)))

    def _time_whole(self, order: TimingOrder) -> TimedGraph:
        with Child("time a graph", self._conditions.threads) as child:
            return child.call(time_graph, order)

    def _time_block(self, order: TimingOrder) -> TimedGraph:
        if self._timer is None:
            child = Child("time blocks", self._conditions.threads)
            self._timer = self._children.enter_context(child)
        # A process that had other graphs before says nothing of this one's memory.
        return replace(self._timer.call(time_graph, order), baseline_bytes=0, peak_bytes=0)


@contextlib.contextmanager
def open_measure(
    folder: Path, runtime: str, precision: str, threads: int, rounds: Rounds | None = None
) -> Iterator[Measure]:
    """A `Measure` on this machine: what is stored in `folder` under its conditions is not measured
    again, and what is new is stored.

    Args:
        rounds: how long each graph is timed; None: so that a few percent are told apart.

    Raises:
        InputError: a runtime that does not execute here.
    """
    known = runtimes().get(runtime)
    if known is None or known.backend is None or not known.executes_here():
        raise InputError("graphs must be timed in a runtime that executes here", runtime)
    store = MeasurementStore(folder, conditions_here(runtime, precision, threads))
    with scratch_folder() as scratch, contextlib.ExitStack() as children:
        timer = GraphTimer(store.conditions, scratch, children, rounds or Rounds())
        yield Referenced(timer, StoredMeasure(timer, store))


class ReferencedTimer(Timer, Protocol):
    """Times graphs in units of a reference.

    Attributes:
        reference: its measurement; None until it is known.
    """

    reference: Measurement | None


@dataclass(frozen=True)
class Referenced:
    """Measures the reference before anything else, when something is to be measured at all."""

    timer: ReferencedTimer
    measure: StoredMeasure

    def __call__(self, graphs: Sequence[Graph]) -> list[Measurement]:
        missing = any(self.measure.store.known(graph) is None for graph in graphs)
        if missing and self.timer.reference is None:
            (self.timer.reference,) = self.measure([reference_graph()])
        return self.measure(graphs)
