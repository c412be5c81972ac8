"""95 % confidence intervals by resampling pictures (Efron and Tibshirani, 1993).

They say how much a figure would change with other pictures of the same row, the reference being
what it is; a bias that comes from the number of pictures is in none of them.

Shapes: N pictures; M of the reference; B resampled sets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Kernel = Callable[[npt.NDArray[Any], npt.NDArray[Any]], npt.NDArray[Any]]

DRAWS = 1000
KERNEL_DRAWS = 400  # each takes N² sums
_BLOCK = 500


def interval(values: npt.NDArray[Any]) -> tuple[float, float]:
    """The middle 95 % of resampled values."""
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def mean_interval(samples: npt.NDArray[Any], seed: int) -> tuple[float, float]:
    """Interval of the mean of one value for each picture, [N]."""
    values = np.asarray(samples, dtype=np.float64)
    generator = np.random.default_rng(seed)
    blocks = [
        values[generator.integers(len(values), size=(DRAWS // 10, len(values)))].mean(axis=1)
        for _ in range(10)
    ]
    return interval(np.concatenate(blocks))


def mmd_deviations(
    pictures: npt.NDArray[Any], reference: npt.NDArray[Any], kernel: Kernel, seed: int
) -> Array:
    """How the squared MMD of N pictures [N,D] to M others [M,D] changes with resampled ones, [B].

    With v_i + 1 the number of times that picture i was drawn, the unbiased estimate moves by
    2 Σ v_i (mean_j k(x_i, x_j) - mean_j k(x_i, y_j)) / N + Σ_{i≠j} v_i v_j k̃(x_i, x_j) / N(N-1),
    k̃ the doubly centred kernel (Hušková and Janssen, 1993): the second sum is all there is where
    both sets come from one distribution. A picture's pairs with its own copies are left out, which
    would pass for likeness.

    Args:
        kernel: of all pairs of rows, in the precision of both sets.
    """
    x, y, count = pictures, reference, len(pictures)
    generator = np.random.default_rng(seed)
    drawn = generator.integers(count, size=(KERNEL_DRAWS, count))
    moved = np.stack([np.bincount(row, minlength=count) for row in drawn], axis=1) - 1.0
    rows, diagonal, across = (np.zeros(count) for _ in range(3))
    products = np.zeros(KERNEL_DRAWS)
    for start in range(0, count, _BLOCK):
        part = slice(start, start + _BLOCK)
        block = kernel(x[part], x)
        diagonal[part] = np.diagonal(block, offset=start)
        rows[part] = block.mean(axis=1, dtype=np.float64)
        products += (moved[part] * (block @ moved.astype(block.dtype))).sum(axis=0)
        across[part] = kernel(x[part], y).mean(axis=1, dtype=np.float64)
    others = (rows * count - diagonal) / (count - 1)
    centred = diagonal - 2 * rows + rows.mean()
    linear = 2 * (others - across) @ moved / count
    quadratic = (products - centred @ moved**2) / (count * (count - 1))
    return np.asarray(linear + quadratic, dtype=np.float64)
