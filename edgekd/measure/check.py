"""Known work, timed: whether a machine's clock and its quiet can be trusted."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from edgekd.measure.clock import Latency, Watch, time_calls, time_interleaved
from edgekd.measure.conditions import conditions, throttled
from edgekd.measure.environment import load_average

_WARMUP = 3
_BLOCK = bytes(1 << 22)  # hashed in some milliseconds, on one thread, without memory of its own


@dataclass(frozen=True)
class Check:
    """Samples of a sleep and of a fixed piece of work, and what slows the processor down.

    Attributes:
        throttled, governor, temperature_c: as `edgekd.measure.conditions` has them.
    """

    sleep: Latency
    work: Latency
    load_average: float | None
    throttled: bool | None
    governor: str | None
    temperature_c: float | None


def check(runs: int, sleep_ms: float) -> Check:
    """Time a sleep of so long and the hash of 4 MiB, each `runs` times."""
    load, before = load_average(), conditions()
    sleep = time_calls(lambda: time.sleep(sleep_ms / 1000), 1, runs)
    work = time_interleaved({"": lambda: hashlib.sha256(_BLOCK)}, _WARMUP, runs, Watch(1))[""]
    after = conditions()
    slowed = throttled(before, after)
    return Check(sleep, work, load, slowed, after.governor, after.temperature_c)
