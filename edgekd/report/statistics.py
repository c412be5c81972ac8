"""Whether two sets of samples differ by more than chance, at 95 %.

samples: [N] of one run; a: of the first, b: of the second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_TAIL = 0.025
_RESAMPLES = 2000
_AT_ONCE = 2**22  # numbers that one block of resamples may hold


@dataclass(frozen=True)
class Estimate:
    """A difference or a ratio with its 95 % interval; `error`: standard error, where known."""

    value: float
    low: float
    high: float
    error: float | None = None


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """Mean of b - a over pairs, with Student's interval of n-1 degrees of freedom."""
    differences = np.asarray(b, float) - np.asarray(a, float)
    n = len(differences)
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    return _student(float(differences.mean()), error, n - 1)


def welch_difference(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """mean(b) - mean(a) of independent samples; degrees of freedom after Welch-Satterthwaite:
    (u + v)^2 / (u^2/(n-1) + v^2/(m-1)) with u = s_a^2/n, v = s_b^2/m (Welch 1947, eq. 28)."""
    u, v = float(np.var(a, ddof=1)) / len(a), float(np.var(b, ddof=1)) / len(b)
    below = u * u / (len(a) - 1) + v * v / (len(b) - 1)
    freedom = (u + v) ** 2 / below if below else len(a) + len(b) - 2
    return _student(float(np.mean(b) - np.mean(a)), math.sqrt(u + v), freedom)


def median_ratio(a: Sequence[float], b: Sequence[float], seed: int = 0) -> Estimate:
    """median(b) / median(a) with the percentile bootstrap's interval (Efron 1979), seeded."""
    random = np.random.default_rng(seed)
    ratios = _resampled_medians(b, random) / _resampled_medians(a, random)
    low, high = np.quantile(ratios, (_TAIL, 1 - _TAIL))
    return Estimate(float(np.median(b) / np.median(a)), float(low), float(high))


def intervals_apart(
    a: tuple[float | None, float | None], b: tuple[float | None, float | None]
) -> bool | None:
    """Whether two 95 % intervals (low, high) do not meet, which is stricter than a test of the
    difference; None: one has no interval."""
    (low, high), (other_low, other_high) = a, b
    if low is None or high is None or other_low is None or other_high is None:
        return None
    return high < other_low or other_high < low


def _resampled_medians(samples: Sequence[float], random: np.random.Generator) -> np.ndarray:
    """Medians [_RESAMPLES] of samples drawn with replacement, in bounded memory."""
    values = np.asarray(samples, float)
    block = max(1, min(_RESAMPLES, _AT_ONCE // len(values)))
    medians = np.empty(_RESAMPLES)
    for start in range(0, _RESAMPLES, block):
        count = min(block, _RESAMPLES - start)
        drawn = values[random.integers(0, len(values), (count, len(values)))]
        medians[start : start + count] = np.median(drawn, axis=1)
    return medians


def _student(mean: float, error: float, freedom: float) -> Estimate:
    from scipy.special import stdtrit  # the quantile alone: scipy.stats takes long to import

    half = float(stdtrit(freedom, 1 - _TAIL)) * error
    return Estimate(mean, mean - half, mean + half, error)
