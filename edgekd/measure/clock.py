"""The stopwatch: wall-clock time of calls, warm-up apart, every raw sample kept.

Callables that are compared are timed in one run, in turns
(`time_interleaved`): what else the machine does then falls on all of them
alike, and the ratio between them stays fair.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekd.errors import InputError

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
    """

    samples_ms: tuple[float, ...]
    warmup_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...] = ()

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
        """For JSON: percentiles and all raw samples."""
        return {
            "p50_ms": self.p50_ms,
            "p90_ms": self.p90_ms,
            "p99_ms": self.percentile_ms(99),
            "samples_ms": list(self.samples_ms),
            "warmup_ms": list(self.warmup_ms),
            "cpu_p50_ms": float(np.median(self.cpu_ms)) if self.cpu_ms else None,
            "cpu_ms": list(self.cpu_ms),
        }


def _elapsed_ms(call: Call) -> tuple[float, float]:
    """Wall-clock and processor time of one call."""
    started, cpu_started = time.perf_counter_ns(), time.process_time_ns()
    call()
    cpu_stopped, stopped = time.process_time_ns(), time.perf_counter_ns()
    return (stopped - started) / NS_PER_MS, (cpu_stopped - cpu_started) / NS_PER_MS


def time_calls(call: Call, warmup: int, runs: int) -> Latency:
    """Time one callable: `warmup` calls that do not count, then `runs` that do.

    Raises:
        InputError: `runs < 1` or `warmup < 0`.
    """
    return time_interleaved({"": call}, warmup, runs)[""]


def time_interleaved(calls: Mapping[str, Call], warmup: int, runs: int) -> dict[str, Latency]:
    """Time several callables in turns: every round calls each of them once.

    Each round starts with the next callable, so that none always runs after
    the same neighbour (warm caches, a clock that slows down).

    Raises:
        InputError: `runs < 1` or `warmup < 0`.
    """
    if runs < 1 or warmup < 0:
        raise InputError("`runs >= 1` and `warmup >= 0` must hold", f"runs={runs}, warmup={warmup}")
    names = list(calls)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for round_index in range(warmup + runs):
        start = round_index % len(names) if names else 0
        for name in names[start:] + names[:start]:
            times[name].append(_elapsed_ms(calls[name]))
    return {
        name: Latency(
            samples_ms=tuple(wall for wall, _ in samples[warmup:]),
            warmup_ms=tuple(wall for wall, _ in samples[:warmup]),
            cpu_ms=tuple(cpu for _, cpu in samples[warmup:]),
        )
        for name, samples in times.items()
    }
