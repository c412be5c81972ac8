"""Latency per component and per picture of several rows, in turns in one process.

The inputs of a component are those it gets in a real drawing: one short run of each pipeline is
recorded and then replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from edgekd.errors import EdgekdError
from edgekd.measure.clock import Call, Latency, Watch, time_calls, time_interleaved
from edgekd.measure.conditions import conditions, throttled
from edgekd.measure.environment import load_average
from edgekd.measure.exported import draw, in_few_steps, open_exported, step_calls
from edgekd.measure.picture import PictureOrder
from edgekd.measure.power import find_meter

IMAGE = "image"


class CallCounts(Protocol):
    """How often what is called: see `edgekd.benchmark.suite.SpeedSection`."""

    @property
    def warmup(self) -> int: ...
    @property
    def component_runs(self) -> int: ...
    @property
    def image_runs(self) -> int: ...
    @property
    def busy_repeats(self) -> int: ...


@dataclass(frozen=True)
class OpenedRow:
    """A row that has drawn.

    Attributes:
        draw: a whole picture.
        first_ms: the first of them: lazy loading and compilation are in it.
        parts: see `component_calls`.
    """

    draw: Call
    first_ms: float
    parts: dict[str, Call]


@dataclass(frozen=True)
class Speeds:
    """What was measured.

    Attributes:
        throttled: whether the processor was slowed down for its heat; None: not readable.
        energy_source: the counter of the joules of whole pictures, or why there is none.
        timings: by row, then `image` and the components.
        failures: why a row has no times.
    """

    load_average: float | None
    throttled: bool | None
    energy_source: str
    timings: dict[str, dict[str, Latency]]
    failures: dict[str, str]


def open_row(
    whole: Call, calls: Callable[[float | None], dict[str, Call]], guided: bool
) -> OpenedRow:
    """A row from its calls.

    Args:
        whole: draws a picture.
        calls: draws one step at this guidance (None: the row's own) and gives the components'
            calls.
        guided: at the row's own guidance, a step has two inputs of the U-Net.
    """
    first_ms = time_calls(whole, 0, 1).samples_ms[0]
    return OpenedRow(whole, first_ms, component_calls(calls, guided))


def component_calls(
    calls: Callable[[float | None], dict[str, Call]], guided: bool
) -> dict[str, Call]:
    """Repeatable calls: each text encoder, `unet` of a step without guidance, `unet_guided` of one
    with it, decoder; arguments as `open_row` has them."""
    plain = calls(1.0)
    return {**plain, "unet_guided": calls(None)["unet"]} if guided else plain


def open_exported_row(order: PictureOrder) -> OpenedRow:
    """An exported folder, opened and drawn."""
    pipeline = open_exported(order)

    def calls(guidance: float | None) -> dict[str, Call]:
        scale = order.guidance_scale if guidance is None else guidance
        return step_calls(pipeline, replace(in_few_steps(pipeline, order), guidance_scale=scale))

    return open_row(lambda: draw(pipeline, order), calls, order.guided)


def time_rows(
    rows: Mapping[str, Callable[[], OpenedRow]], threads: int, settings: CallCounts
) -> Speeds:
    """Time all rows in turns; one that cannot be opened or drawn stops no other.

    Args:
        rows: open them.
        threads: that they run on.
    """
    load, before = load_average(), conditions()
    opened: dict[str, OpenedRow] = {}
    failures: dict[str, str] = {}
    for name, open_it in rows.items():
        try:
            opened[name] = open_it()
        except EdgekdError as error:
            failures[name] = str(error)
    found, watch = find_meter(), Watch(threads, settings.busy_repeats)
    whole = time_interleaved(
        {name: one.draw for name, one in opened.items()},
        0,
        settings.image_runs,
        replace(watch, meter=found.meter),
    )
    timings = {
        name: {IMAGE: replace(latency, warmup_ms=(opened[name].first_ms,))}
        for name, latency in whole.items()
    }
    for component in sorted({part for one in opened.values() for part in one.parts}):
        calls = {n: one.parts[component] for n, one in opened.items() if component in one.parts}
        latencies = time_interleaved(calls, settings.warmup, settings.component_runs, watch)
        for name, latency in latencies.items():
            timings[name][component] = latency
    slowed = throttled(before, conditions())
    return Speeds(load, slowed, found.source, timings, failures)


def time_exported(orders: Mapping[str, PictureOrder], threads: int, settings: CallCounts) -> Speeds:
    """As `time_rows`, of exported folders."""
    rows = {name: partial(open_exported_row, order) for name, order in orders.items()}
    return time_rows(rows, threads, settings)
