"""How a cost grows: `cost = c * value ** exponent`, fitted by least squares in logarithms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekd.errors import InputError


@dataclass(frozen=True)
class PowerLaw:
    """A fit.

    Attributes:
        exponent: 1: proportional; 0: does not grow.
        factor: the cost at 1.
        r_squared: share of the variance of the costs' logarithms that the fit explains; 1 where
            they do not vary.
    """

    exponent: float
    factor: float
    r_squared: float


def fit_power_law(values: Sequence[float], costs: Sequence[float]) -> PowerLaw:
    """Ordinary least squares of log(cost) on log(value).

    Raises:
        InputError: a number that is not above 0, or fewer than two different values.
    """
    if len(set(values)) < 2 or min(*values, *costs) <= 0:
        raise InputError(
            "a power law must be fitted to at least two different values, all above 0",
            f"{list(values)} and {list(costs)}",
        )
    x, y = np.log(np.asarray(values, float)), np.log(np.asarray(costs, float))
    centred = x - x.mean()
    exponent = float(centred @ y / (centred @ centred))
    intercept = float(y.mean() - exponent * x.mean())
    rest = float(np.sum((y - intercept - exponent * x) ** 2))
    total = float(np.sum((y - y.mean()) ** 2))
    # A constant's logarithms differ by rounding alone.
    flat = total <= len(y) * (1e-12 * max(1.0, float(np.abs(y).max()))) ** 2
    return PowerLaw(exponent, float(np.exp(intercept)), 1.0 if flat else 1 - rest / total)
