"""95 % confidence intervals by resampling pictures (Efron and Tibshirani, 1993).

They say how much a figure would change with other pictures of the same row, the reference being
what it is; a bias that comes from the number of pictures is in none of them.

Shapes: N pictures; M of the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Kernel = Callable[[npt.NDArray[Any], npt.NDArray[Any]], npt.NDArray[Any]]

DRAWS = 1000
_BLOCK = 500


def mean_interval(samples: npt.NDArray[Any], seed: int) -> tuple[float, float]:
    """Interval of the mean of one value for each picture, [N]."""
    values = np.asarray(samples, dtype=np.float64)
    generator = np.random.default_rng(seed)
    blocks = [
        values[generator.integers(len(values), size=(DRAWS // 10, len(values)))].mean(axis=1)
        for _ in range(10)
    ]
    low, high = np.percentile(np.concatenate(blocks), (2.5, 97.5))
    return float(low), float(high)


def mmd_influences(
    pictures: npt.NDArray[Any], reference: npt.NDArray[Any], kernel: Kernel
) -> Array:
    """How much each of N pictures [N,D] moves the squared MMD to M others [M,D]: [N], mean 0.

    The first-order part 2 (mean_j k(x_i, x_j) - mean_j k(x_i, y_j)) of the unbiased estimate, a
    picture's pair with itself left out. Where both sets come from one distribution there is no
    such part, only its noise, and intervals by it are about 1.4 times too wide.

    Args:
        kernel: of all pairs of rows, in the precision of both sets.
    """
    count = len(pictures)
    nearness = np.zeros(count)
    for start in range(0, count, _BLOCK):
        part = slice(start, start + _BLOCK)
        block = kernel(pictures[part], pictures)
        within = block.sum(axis=1, dtype=np.float64) - np.diagonal(block, offset=start)
        across = kernel(pictures[part], reference).mean(axis=1, dtype=np.float64)
        nearness[part] = within / (count - 1) - across
    return np.asarray(2 * (nearness - nearness.mean()), dtype=np.float64)
