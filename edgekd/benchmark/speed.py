"""Latency per component and per picture, all given rows in turns in one process.

The inputs of a component are those it gets in a real drawing: one short run
of each pipeline is recorded and then replayed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekd.benchmark.cases import Case
from edgekd.benchmark.draw import open_drawer
from edgekd.benchmark.drawer import Call, Drawer, DrawingBatch
from edgekd.benchmark.suite import SpeedSection
from edgekd.measure.clock import time_interleaved
from edgekd.measure.environment import load_average
from edgekd.report.schema import ReportPart, Timing

IMAGE = "image"


@dataclass(frozen=True)
class SpeedOrder:
    """Cases to time in turns."""

    cases: Sequence[Case]
    caption: str
    resolution: int
    speed: SpeedSection


class SpeedResult(ReportPart):
    """Times by case and component; `image` is the whole picture."""

    load_average: float | None
    timings: dict[str, dict[str, Timing]]


def component_calls(drawer: Drawer, batch: DrawingBatch) -> dict[str, Call]:
    """Repeatable calls: each text encoder, `unet` of a step without guidance, `unet_guided` of one
    with it, decoder."""
    plain = drawer.step_calls(batch.drawn_with(steps=1, guidance_scale=1.0))
    if not batch.generation.guided:
        return plain
    return {**plain, "unet_guided": drawer.step_calls(batch.drawn_with(steps=1))["unet"]}


def measure_speed(order: SpeedOrder) -> SpeedResult:
    """Time all cases of an order in turns."""
    load, speed = load_average(), order.speed
    drawers = {case.name: open_drawer(case, speed.threads) for case in order.cases}
    batches = {
        case.name: DrawingBatch(case, speed.threads, [order.caption], [0], order.resolution, seed=0)
        for case in order.cases
    }
    timings: dict[str, dict[str, Timing]] = {name: {} for name in drawers}

    def time_all(component: str, calls: Mapping[str, Call], warmup: int, runs: int) -> None:
        for name, latency in time_interleaved(calls, warmup, runs).items():
            timings[name][component] = Timing.model_validate(latency.to_dict())

    # Whole pictures first: their warm-up is then the true first call of each runtime.
    whole = {name: functools.partial(one.draw, batches[name]) for name, one in drawers.items()}
    time_all(IMAGE, whole, 1, speed.image_runs)
    calls = {name: component_calls(drawer, batches[name]) for name, drawer in drawers.items()}
    for component in sorted({part for parts in calls.values() for part in parts}):
        same = {name: parts[component] for name, parts in calls.items() if component in parts}
        time_all(component, same, speed.warmup, speed.component_runs)
    return SpeedResult(load_average=load, timings=timings)
