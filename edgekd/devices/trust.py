"""Whether a device's figures can be trusted: its clock against this machine's, a known sleep, and
how a fixed piece of work scatters.

A rule that is broken is a problem, in words; what is worth knowing besides is a note.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekd.devices.client import Tick
from edgekd.devices.results import CheckResult, Samples
from edgekd.measure.waiting import BUSY

# A clock that is off by a percent shifts every figure by it: less than what latencies scatter by.
_MOST_DRIFT = 0.01
# A sleep ends late by a timer's grain and by waiting for a core; a clock that is told wrong makes
# it end early.
_LATE_SHARE, _LATE_MS, _EARLY_SHARE = 0.10, 2.0, 0.02
# Of the middle 80 % of a fixed piece of work, over its median.
_MOST_SPREAD = 0.10
# The last third of the work over the first: a processor that grows hot slows down.
_MOST_SLOWDOWN = 0.05
_HOT_C = 85.0


@dataclass(frozen=True)
class ClockDrift:
    """How much faster a device's clock runs than this machine's.

    Attributes:
        drift: 0.01: of 100 s here it counts 101.
        error: by which the way of the readings may falsify that, at most.
    """

    drift: float
    error: float


@dataclass(frozen=True)
class Trust:
    """What a check found; trusted without problems.

    Attributes:
        spread: of the work, see `_MOST_SPREAD`; slowdown: of its last third over its first.
    """

    clock: ClockDrift
    sleep_ms: float
    work_ms: float
    spread: float
    slowdown: float
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        return not self.problems


def clock_drift(first: Sequence[Tick], last: Sequence[Tick]) -> ClockDrift:
    """The drift between two moments, from the quickest reading of each.

    A reading happened somewhere between the two of the host's clock: half their distance is its
    error.
    """
    start, end = (min(ticks, key=lambda one: one.after - one.before) for ticks in (first, last))
    here = (end.before + end.after - start.before - start.after) / 2
    there = end.device - start.device
    half = (start.after - start.before + end.after - end.before) / 2
    return ClockDrift(there / here - 1, half / here)


def spread(samples: Sequence[float]) -> float:
    """Width of the middle 80 % over the median."""
    low, middle, high = np.percentile(samples, (10, 50, 90))
    return float((high - low) / middle)


def slowdown(samples: Sequence[float]) -> float:
    """Median of the last third over that of the first, less 1."""
    third = max(1, len(samples) // 3)
    return float(np.median(samples[-third:]) / np.median(samples[:third]) - 1)


def judge(clock: ClockDrift, found: CheckResult, asked_ms: float) -> Trust:
    """Hold a check against every rule.

    Args:
        asked_ms: length of the sleep.
    """
    sleep = float(np.median(found.sleep.samples_ms))
    work = found.work.samples_ms
    return Trust(
        clock=clock,
        sleep_ms=sleep,
        work_ms=float(np.median(work)),
        spread=spread(work),
        slowdown=slowdown(work),
        problems=(
            *_clock_problems(clock),
            *_sleep_problems(sleep, asked_ms),
            *_work_problems(found.work, found.throttled),
        ),
        notes=tuple(_notes(found)),
    )


def _clock_problems(clock: ClockDrift) -> list[str]:
    if abs(clock.drift) > _MOST_DRIFT + clock.error:
        way = "fast" if clock.drift > 0 else "slow"
        return [f"its clock is {abs(clock.drift):.1%} too {way}: so are all its figures wrong"]
    if clock.error > _MOST_DRIFT:
        return [f"its clock cannot be told better than to {clock.error:.1%} over this link"]
    return []


def _sleep_problems(sleep_ms: float, asked_ms: float) -> list[str]:
    if sleep_ms < (1 - _EARLY_SHARE) * asked_ms:
        return [f"a sleep of {asked_ms:g} ms ends after {sleep_ms:.1f} ms by its own clock"]
    if sleep_ms > (1 + _LATE_SHARE) * asked_ms + _LATE_MS:
        return [f"a sleep of {asked_ms:g} ms lasts {sleep_ms:.1f} ms: it is busy, or in power save"]
    return []


def _work_problems(work: Samples, throttled: bool | None) -> list[str]:
    problems = []
    wide, slower = spread(work.samples_ms), slowdown(work.samples_ms)
    if wide > _MOST_SPREAD:
        problems.append(f"equal pieces of work scatter by {wide:.0%}")
    if slower > _MOST_SLOWDOWN:
        problems.append(f"equal work took {slower:.0%} longer in the end than at first")
    if work.busy:
        problems.append("other work held its cores")
    elif work.cpu_ms:
        waited = float(np.median(work.samples_ms) / max(float(np.median(work.cpu_ms)), 1e-9) - 1)
        if waited > BUSY:
            problems.append(f"its work waited {waited:.0%} of its time for a core")
    if throttled:
        problems.append("its processor was slowed down for its heat")
    return problems


def _notes(found: CheckResult) -> list[str]:
    notes = []
    if found.governor is not None and "powersave" in found.governor:
        notes.append(f"frequency governor `{found.governor}`: `performance` gives steadier figures")
    if found.temperature_c is not None and found.temperature_c >= _HOT_C:
        notes.append(f"{found.temperature_c:.0f} °C: it may slow down soon")
    if found.throttled is None:
        notes.append("throttling cannot be read there")
    return notes
