"""Latency per component and per picture, all given rows in turns in one process."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from edgekd.benchmark.cases import Case
from edgekd.benchmark.draw import open_drawer
from edgekd.benchmark.drawer import Call, Drawer, DrawingBatch
from edgekd.benchmark.suite import SpeedSection
from edgekd.measure.clock import Latency
from edgekd.measure.speed import IMAGE, OpenedRow, Speeds, open_row, time_rows
from edgekd.report.costs_schema import Energy, Timing
from edgekd.report.part import ReportPart


@dataclass(frozen=True)
class SpeedOrder:
    """Cases to time in turns."""

    cases: Sequence[Case]
    caption: str
    resolution: int
    speed: SpeedSection


class SpeedResult(ReportPart):
    """Times by case and component; `image` is the whole picture.

    Attributes:
        energy: of whole pictures, by case.
        failures: why a case has no times, by case.
        throttled: whether the processor was slowed down for its heat; None: not readable.
    """

    load_average: float | None
    timings: dict[str, dict[str, Timing]]
    energy: dict[str, Energy] = Field(default_factory=dict)
    failures: dict[str, str] = Field(default_factory=dict)
    throttled: bool | None = None


def measure_speed(order: SpeedOrder) -> SpeedResult:
    """Time all cases of an order in turns; one that cannot be drawn stops no other."""
    rows = {case.name: functools.partial(_open, case, order) for case in order.cases}
    found = time_rows(rows, order.speed.threads, order.speed)
    return SpeedResult(
        load_average=found.load_average,
        timings={
            name: {part: timing(latency) for part, latency in parts.items()}
            for name, parts in found.timings.items()
        },
        energy={name: energy(parts[IMAGE], found) for name, parts in found.timings.items()},
        failures=found.failures,
        throttled=found.throttled,
    )


def _open(case: Case, order: SpeedOrder) -> OpenedRow:
    drawer = open_drawer(case, order.speed.threads)
    batch = DrawingBatch(case, order.speed.threads, [order.caption], [0], order.resolution, seed=0)
    return open_row(lambda: drawer.draw(batch), batch_calls(drawer, batch), batch.generation.guided)


def batch_calls(drawer: Drawer, batch: DrawingBatch) -> Callable[[float | None], dict[str, Call]]:
    """The calls of one step of a batch at a guidance; None: the batch's own."""

    def calls(guidance: float | None) -> dict[str, Call]:
        changes = {} if guidance is None else {"guidance_scale": guidance}
        return drawer.step_calls(batch.in_few_steps().drawn_with(**changes))

    return calls


def timing(latency: Latency) -> Timing:
    """For a report."""
    return Timing.model_validate(latency.to_dict())


def energy(latency: Latency, found: Speeds) -> Energy:
    """Of whole pictures, for a report."""
    joules = float(np.median(latency.joules)) if latency.joules else None
    return Energy(joules=joules, source=found.energy_source)
