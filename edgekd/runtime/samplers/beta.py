"""Quantiles of a symmetric beta distribution: the runtime has no SciPy."""

from __future__ import annotations

import math

import numpy as np

from edgekd.runtime.samplers.sampler import F64Array

_HALVINGS = 60  # of the interval that holds a quantile: below the spacing of doubles
_TERMS = 300


def beta_quantile(shares: F64Array, shape: float) -> F64Array:
    """Where the distribution's lower tail holds `shares` of it, each in [0, 1]."""
    return np.array([_quantile(float(share), shape) for share in shares])


def _quantile(share: float, shape: float) -> float:
    if share in (0.0, 1.0):
        return share
    if share > 0.5:  # where 1 - x would lose digits, its mirror does not
        return 1.0 - _quantile(1.0 - share, shape)
    low, high = 0.0, 0.5
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _lower_tail(middle, shape) < share else (low, middle)
    return (low + high) / 2


def _lower_tail(x: float, shape: float) -> float:
    """The regularised incomplete beta function I_x(a, a) for x <= 1/2, by its hypergeometric
    series (DLMF 8.17.8): x^a (1-x)^a / (a B(a, a)) times the sum of (2a)_n / (a+1)_n x^n."""
    total = term = 1.0
    for n in range(_TERMS):
        term *= (2 * shape + n) / (shape + 1 + n) * x
        total += term
        if term < 1e-17 * total:
            break
    norm = math.gamma(shape) ** 2 / math.gamma(2 * shape)
    return math.pow(x * (1 - x), shape) / (shape * norm) * total
