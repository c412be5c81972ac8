"""The stopwatch: wall-clock time of calls, warm-up apart, every raw sample kept.

Callables that are compared are timed in one run, in turns
(`time_interleaved`): what else the machine does then falls on all of them
alike, and the ratio between them stays fair. Rounds in which other work held the cores can be
taken again (`Watch`): the quietest ones are kept, by how long the calls waited for a core and not
by how long they took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekd.errors import InputError
from edgekd.measure.power import Meter
from edgekd.measure.waiting import BUSY, Clocks, contention, read_clocks

Call = Callable[[], Any]
NS_PER_MS = 1e6


@dataclass(frozen=True)
class Latency:
    """Raw times of one callable.

    Attributes:
        samples_ms: every measured call, in order.
        warmup_ms: the calls before them; the first holds lazy loading and compilation.
        cpu_ms: processor time that this process spent in each sample. On one thread it equals
            the wall-clock time of an idle machine; a gap shows that others held the cores.
        joules: of each sample, where a meter was given.
        repeats: how often all samples were taken again; the quietest rounds are kept.
        busy: other work held the cores to the end.
    """

    samples_ms: tuple[float, ...]
    warmup_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...] = ()
    joules: tuple[float, ...] = ()
    repeats: int = 0
    busy: bool = False

    def percentile_ms(self, percent: float) -> float:
        """Percentile of the samples with linear interpolation."""
        return float(np.percentile(self.samples_ms, percent))

    @property
    def p50_ms(self) -> float:
        return self.percentile_ms(50)

    @property
    def p90_ms(self) -> float:
        return self.percentile_ms(90)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: percentiles and all raw samples of time."""
        return {
            "p50_ms": self.p50_ms,
            "p90_ms": self.p90_ms,
            "p99_ms": self.percentile_ms(99),
            "samples_ms": list(self.samples_ms),
            "warmup_ms": list(self.warmup_ms),
            "cpu_p50_ms": float(np.median(self.cpu_ms)) if self.cpu_ms else None,
            "cpu_ms": list(self.cpu_ms),
            "repeats": self.repeats,
            "busy": self.busy,
        }


@dataclass(frozen=True)
class Watch:
    """What is watched while calls are timed.

    Attributes:
        threads: that a call runs on.
        repeats: all samples are taken again up to so often while other work holds the cores.
        meter: of energy; None: there is none.
        clocks: that tell of other work.
    """

    threads: int = 1
    repeats: int = 0
    meter: Meter | None = None
    clocks: Callable[[], Clocks] = read_clocks


@dataclass(frozen=True)
class _Sample:
    wall_ms: float
    cpu_ms: float
    joules: float | None


@dataclass(frozen=True)
class _Round:
    """Each callable once; `contention` as `edgekd.measure.waiting.contention` has it."""

    samples: dict[str, _Sample]
    contention: float | None


def time_calls(call: Call, warmup: int, runs: int) -> Latency:
    """Time one callable: `warmup` calls that do not count, then `runs` that do.

    Raises:
        InputError: `runs < 1` or `warmup < 0`.
    """
    return time_interleaved({"": call}, warmup, runs)[""]


def time_interleaved(
    calls: Mapping[str, Call], warmup: int, runs: int, watch: Watch | None = None
) -> dict[str, Latency]:
    """Time several callables in turns: every round calls each of them once.

    Each round starts with the next callable, so that none always runs after
    the same neighbour (warm caches, a clock that slows down).

    Args:
        watch: None: samples are taken once.

    Raises:
        InputError: `runs < 1` or `warmup < 0`.
    """
    if runs < 1 or warmup < 0:
        raise InputError("`runs >= 1` and `warmup >= 0` must hold", f"runs={runs}, warmup={warmup}")
    watch, number, repeats = watch or Watch(), 0, 0

    def take(count: int) -> list[_Round]:
        nonlocal number
        number += count
        return [_round(calls, index, watch) for index in range(number - count, number)]

    before, rounds = take(warmup), take(runs)
    while _is_busy(_quietest(rounds, runs)) and repeats < watch.repeats:
        rounds += take(runs)
        repeats += 1
    kept = _quietest(rounds, runs)
    return {name: _latency(name, before, kept, repeats) for name in calls}


def _round(calls: Mapping[str, Call], index: int, watch: Watch) -> _Round:
    names = list(calls)
    start = index % len(names) if names else 0
    before = watch.clocks()
    turns = names[start:] + names[:start]
    samples = {name: _sample(calls[name], watch.meter) for name in turns}
    return _Round(samples, contention(before, watch.clocks(), watch.threads))


def _sample(call: Call, meter: Meter | None) -> _Sample:
    finish = meter.start() if meter else None
    started, cpu_started = time.perf_counter_ns(), time.process_time_ns()
    call()
    cpu_stopped, stopped = time.process_time_ns(), time.perf_counter_ns()
    joules = finish() if finish else None
    return _Sample((stopped - started) / NS_PER_MS, (cpu_stopped - cpu_started) / NS_PER_MS, joules)


def _quietest(rounds: list[_Round], count: int) -> list[_Round]:
    """So many rounds with the least contention, in the order in which they were taken."""
    order = sorted(range(len(rounds)), key=lambda index: rounds[index].contention or 0.0)
    return [rounds[index] for index in sorted(order[:count])]


def _is_busy(rounds: list[_Round]) -> bool:
    """Other work held the cores in the typical round; one slow round is what p90 is for."""
    known = [one.contention for one in rounds if one.contention is not None]
    return bool(known) and float(np.median(known)) > BUSY


def _latency(name: str, before: list[_Round], kept: list[_Round], repeats: int) -> Latency:
    samples = [one.samples[name] for one in kept]
    return Latency(
        samples_ms=tuple(one.wall_ms for one in samples),
        warmup_ms=tuple(one.samples[name].wall_ms for one in before),
        cpu_ms=tuple(one.cpu_ms for one in samples),
        joules=tuple(one.joules for one in samples if one.joules is not None),
        repeats=repeats,
        busy=_is_busy(kept),
    )
