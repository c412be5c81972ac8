"""Latency per component and per picture, all given rows in turns in one process.

The inputs of a component are those it gets in a real drawing: one short run
of each pipeline is recorded and then replayed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from edgekd.benchmark.draw import Batch, Call, Drawer, open_drawer
from edgekd.benchmark.orders import SpeedOrder, SpeedResult
from edgekd.measure.clock import Latency, time_interleaved
from edgekd.measure.environment import load_average
from edgekd.report.schema import Timing

IMAGE = "image"


def component_calls(drawer: Drawer, batch: Batch) -> dict[str, Call]:
    """Repeatable calls: each text encoder, `unet` of a step without guidance, `unet_guided` of one
    with it, decoder."""
    short = replace(batch.generation, steps=1)
    plain = drawer.step_calls(replace(batch, generation=replace(short, guidance_scale=1.0)))
    if not batch.generation.guided:
        return plain
    guided = drawer.step_calls(replace(batch, generation=short))
    return {**plain, "unet_guided": guided["unet"]}


def measure_speed(order: SpeedOrder) -> SpeedResult:
    """Time all cases of an order in turns."""
    load = load_average()
    drawers: dict[str, Drawer] = {}
    batches: dict[str, Batch] = {}
    for case in order.cases:
        assert case.generation is not None
        drawers[case.name] = open_drawer(case, order.speed.threads)
        batches[case.name] = Batch((order.caption,), (0,), case.generation, order.resolution)
    timings: dict[str, dict[str, Timing]] = {name: {} for name in drawers}

    def time_all(component: str, calls: dict[str, Call], warmup: int, runs: int) -> None:
        for name, latency in time_interleaved(calls, warmup, runs).items():
            timings[name][component] = _timing(latency)

    # Whole pictures first: their warm-up is then the true first call of each runtime.
    whole = {name: _whole(drawer, batches[name]) for name, drawer in drawers.items()}
    time_all(IMAGE, whole, 1, order.speed.image_runs)
    calls = {name: component_calls(drawer, batches[name]) for name, drawer in drawers.items()}
    for component in sorted({part for parts in calls.values() for part in parts}):
        same = {name: parts[component] for name, parts in calls.items() if component in parts}
        time_all(component, same, order.speed.warmup, order.speed.component_runs)
    return SpeedResult(load_average=load, timings=timings)


def _whole(drawer: Drawer, batch: Batch) -> Callable[[], Any]:
    return lambda: drawer.draw(batch)


def _timing(latency: Latency) -> Timing:
    return Timing.model_validate(latency.to_dict())
