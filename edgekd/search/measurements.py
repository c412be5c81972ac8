"""Measurements of graphs, kept under all that they depend on.

A folder of JSON files, one a measurement, each written whole or not at all as soon as it is there:
a search that is killed loses the one that it was at, and several processes may share a folder.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import Field, JsonValue, ValidationError

from edgekd.errors import InputError
from edgekd.files import hash_code, hash_value, write_json
from edgekd.measure.environment import cpu, versions
from edgekd.reading import read_object
from edgekd.schema import Section
from edgekd.search.graphs import Graph

# What decides a graph's figures beside its runtime: how it is made and converted, what the runtime
# is told, and how it is timed. A device does the last two with its own version of edgekd.
PROCEDURE = (
    "search/modules.py", "export/{runtime}/**/*.py", "export/capture.py", "export/bits/storage.py",
    "benchmark/graph_*.py", "runtime/*_backend.py", "runtime/backend.py", "runtime/options.py",
    "measure/graph_timing.py", "measure/clock.py", "processes/child.py",
)  # fmt: skip


@functools.cache
def procedure(runtime: str) -> str:
    """Hash of the code that graphs are converted to a runtime and timed with: figures of other code
    are not comparable."""
    return hash_code(*(pattern.format(runtime=runtime) for pattern in PROCEDURE))[:16]


class Conditions(Section):
    """What a measurement holds for, beside its graph: under others it is another one.

    Attributes:
        procedure: see the function.
        device: class of the devices that measure; null: this machine.
    """

    runtime: str
    precision: str
    threads: int = Field(..., ge=1)
    cpu: dict[str, JsonValue] = Field(..., description="see `edgekd.measure.environment.cpu`")
    versions: dict[str, str] = Field(..., description="of all packages that take part")
    procedure: str
    device: str | None = None


def conditions_here(runtime: str, precision: str, threads: int) -> Conditions:
    """The conditions of this machine and its installed packages."""
    return Conditions(
        runtime=runtime,
        precision=precision,
        threads=threads,
        cpu=cpu(),
        versions=versions(),
        procedure=procedure(runtime),
    )


class Measurement(Section):
    """What a graph took.

    Times are in units of the reference graph, turned into milliseconds by the reference's own time:
    what slows the machine for a while slows both.
    """

    latency_ms: float = Field(..., gt=0, description="median of the samples, without outliers")
    samples_ms: tuple[float, ...] = Field(..., min_length=1, description="all, outliers too")
    cv: float = Field(..., ge=0, description="deviation of the samples that are no outliers")
    outliers: int = Field(..., ge=0)
    drift: float = Field(
        1.0, gt=0, description="time of the reference then, over its time when it was first timed"
    )
    file_bytes: int = Field(..., ge=0)
    baseline_bytes: int = Field(0, ge=0, description="resident before the graph was opened")
    peak_bytes: int = Field(0, ge=0, description="most resident memory; 0: not measured (blocks)")


class MeasurementRecord(Section):
    """A file of the store."""

    graph: Graph
    conditions: Conditions
    measurement: Measurement


@dataclass(frozen=True)
class MeasurementStore:
    """A folder of measurements, seen under certain conditions."""

    folder: Path
    conditions: Conditions

    def path(self, graph: Graph) -> Path:
        """The file of a graph's measurement."""
        key = hash_value([graph.key(), self.conditions.model_dump(mode="json")])
        return self.folder / f"{key[:32]}.json"

    def known(self, graph: Graph) -> Measurement | None:
        """What was measured of this graph under these conditions; None: nothing, or a damaged
        file, which the next measurement replaces."""
        path = self.path(graph)
        if not path.is_file():
            return None
        try:
            record = MeasurementRecord.model_validate(read_object(path))
        except (InputError, ValidationError):
            return None
        same = record.graph == graph and record.conditions == self.conditions
        return record.measurement if same else None

    def keep(self, graph: Graph, measurement: Measurement) -> None:
        """Write a measurement.

        Raises:
            InputError: the disk is full or read-only.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        record = MeasurementRecord(graph=graph, conditions=self.conditions, measurement=measurement)
        write_json(self.path(graph), record.model_dump(mode="json"))


Keep = Callable[[Graph, Measurement], None]


class Timer(Protocol):
    """Times graphs, in an order of its own."""

    def __call__(self, graphs: Sequence[Graph], keep: Keep) -> None:
        """Hand over each graph's measurement as soon as it is there: what was handed over, nobody
        measures again."""


@dataclass(frozen=True)
class StoredMeasure:
    """A `Measure` that asks the store first, and writes each new measurement at once."""

    timer: Timer
    store: MeasurementStore

    def __call__(self, graphs: Sequence[Graph]) -> list[Measurement]:
        known = {graph.key(): self.store.known(graph) for graph in graphs}
        missing = list({g.key(): g for g in graphs if known[g.key()] is None}.values())

        def keep(graph: Graph, new: Measurement) -> None:
            self.store.keep(graph, new)
            known[graph.key()] = new

        if missing:
            self.timer(missing, keep)
        return [found for graph in graphs if (found := known[graph.key()]) is not None]
