"""Latency per component and per picture, all given rows in turns in one process.

The inputs of a component are those it gets in a real drawing: one short run
of each pipeline is recorded and then replayed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from edgekd.benchmark.cases import Case
from edgekd.benchmark.draw import open_drawer
from edgekd.benchmark.drawer import Call, Drawer, DrawingBatch
from edgekd.benchmark.suite import SpeedSection
from edgekd.errors import EdgekdError
from edgekd.measure.clock import Latency, Watch, time_interleaved
from edgekd.measure.conditions import conditions, throttled
from edgekd.measure.environment import load_average
from edgekd.measure.power import FoundMeter, find_meter
from edgekd.report.costs_schema import Energy, Timing
from edgekd.report.part import ReportPart

IMAGE = "image"


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


@dataclass(frozen=True)
class _Opened:
    """A case that has drawn.

    Attributes:
        draw: a whole picture.
        first_ms: the first of them: lazy loading and compilation are in it.
        parts: see `component_calls`.
    """

    draw: Call
    first_ms: float
    parts: dict[str, Call]


def component_calls(drawer: Drawer, batch: DrawingBatch) -> dict[str, Call]:
    """Repeatable calls: each text encoder, `unet` of a step without guidance, `unet_guided` of one
    with it, decoder."""
    plain = drawer.step_calls(batch.drawn_with(steps=1, guidance_scale=1.0))
    if not batch.generation.guided:
        return plain
    return {**plain, "unet_guided": drawer.step_calls(batch.drawn_with(steps=1))["unet"]}


def measure_speed(order: SpeedOrder) -> SpeedResult:
    """Time all cases of an order in turns; one that cannot be drawn stops no other."""
    load, before, speed = load_average(), conditions(), order.speed
    opened: dict[str, _Opened] = {}
    failures: dict[str, str] = {}
    for case in order.cases:
        try:
            opened[case.name] = _open(case, order)
        except EdgekdError as error:
            failures[case.name] = str(error)
    meter, watch = find_meter(), Watch(speed.threads, speed.busy_repeats)
    whole = time_interleaved(
        {name: one.draw for name, one in opened.items()},
        0,
        speed.image_runs,
        replace(watch, meter=meter.meter),
    )
    timings = {
        name: {IMAGE: _timing(replace(latency, warmup_ms=(opened[name].first_ms,)))}
        for name, latency in whole.items()
    }
    for component in sorted({part for one in opened.values() for part in one.parts}):
        calls = {n: one.parts[component] for n, one in opened.items() if component in one.parts}
        latencies = time_interleaved(calls, speed.warmup, speed.component_runs, watch)
        for name, latency in latencies.items():
            timings[name][component] = _timing(latency)
    return SpeedResult(
        load_average=load,
        timings=timings,
        energy={name: _energy(latency, meter) for name, latency in whole.items()},
        failures=failures,
        throttled=throttled(before, conditions()),
    )


def _open(case: Case, order: SpeedOrder) -> _Opened:
    drawer = open_drawer(case, order.speed.threads)
    batch = DrawingBatch(case, order.speed.threads, [order.caption], [0], order.resolution, seed=0)
    started = time.perf_counter()
    drawer.draw(batch)
    first_ms = 1000 * (time.perf_counter() - started)
    return _Opened(lambda: drawer.draw(batch), first_ms, component_calls(drawer, batch))


def _timing(latency: Latency) -> Timing:
    return Timing.model_validate(latency.to_dict())


def _energy(latency: Latency, found: FoundMeter) -> Energy:
    joules = float(np.median(latency.joules)) if latency.joules else None
    return Energy(joules=joules, source=found.source)
