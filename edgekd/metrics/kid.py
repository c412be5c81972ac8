"""Kernel inception distance (KID): Bińkowski et al., 2018, arXiv:1801.01401.

The unbiased squared MMD with their cubic kernel, averaged over random subsets. It depends on the
subsets, the resize and the extractor, which are part of its name.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError
from edgekd.metrics.bootstrap import mean_interval, mmd_influences
from edgekd.metrics.fid import Array, check_features, check_pair
from edgekd.metrics.metric import Descriptor, Figure, Metric, Pictures, Reference, of_pictures


def kid_name(extractor: str, samples: int, subsets: int, subset_size: int) -> str:
    """`KID-efficientnet_lite0-bilinear128-n256-s50x128`: then subsets x their size."""
    return f"KID-{extractor}-n{samples}-s{subsets}x{subset_size}"


def kernel(u: npt.NDArray[Any], v: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """k(u, v) = (u·v / D + 1)³ of all pairs of rows."""
    return np.asarray((u @ v.T / u.shape[1] + 1) ** 3)


def squared_mmd(x: Array, y: Array) -> float:
    """Unbiased squared MMD between x [N,D] and y [M,D]."""
    n, m = len(x), len(y)
    k_xx, k_yy = kernel(x, x), kernel(y, y)
    within_x = (k_xx.sum() - np.trace(k_xx)) / (n * (n - 1))
    within_y = (k_yy.sum() - np.trace(k_yy)) / (m * (m - 1))
    return float(within_x + within_y - 2 * kernel(x, y).mean())


def kid(
    features_a: npt.NDArray[Any],
    features_b: npt.NDArray[Any],
    subsets: int = 50,
    subset_size: int = 128,
    seed: int = 0,
) -> tuple[float, float]:
    """Kernel distance: mean and standard deviation of the squared MMD over random subsets.

    Subsets are drawn without replacement. The estimate is unbiased and so may be below 0.

    Raises:
        InputError: see `check_features`; or a set has fewer than `subset_size` samples.
    """
    if subsets < 1 or subset_size < 2:
        raise InputError(
            "`subsets >= 1` and `subset_size >= 2` must hold",
            f"subsets={subsets}, subset_size={subset_size}",
        )
    a = check_features(features_a, minimum=subset_size)
    b = check_features(features_b, minimum=subset_size)
    check_pair(a, b)
    generator = np.random.default_rng(seed)
    values = [
        squared_mmd(
            a[generator.choice(len(a), subset_size, replace=False)],
            b[generator.choice(len(b), subset_size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def distance(pictures: Pictures, reference: Reference) -> Figure:
    """Mean and deviation over subsets, whose size is reduced to the smaller of the two sets.

    The interval is that of the pictures, widened by the choice of the subsets.
    """
    size = reference.fitting_subset(len(pictures.features))
    mean, deviation = kid(
        pictures.features, reference.features, reference.subsets, size, reference.seed
    )
    influences = mmd_influences(pictures.features, reference.features, kernel)
    below, above = mean_interval(influences, reference.seed)
    chosen = 1.96 * deviation / math.sqrt(reference.subsets)
    return Figure(
        value=mean,
        error=deviation,
        low=mean - math.hypot(below, chosen),
        high=mean + math.hypot(above, chosen),
    )


METRIC = Metric(
    Descriptor(
        name="kid",
        label="KID",
        title="KID to real images",
        direction="lower",
        scale=1000,
        source="pictures",
        places=("column", "summary"),
        rank=70,
        full_name="KID-{extractor}-n{samples}-s{subsets}x{subset_size}",
        note="Squared maximum mean discrepancy, mean ± standard deviation over subsets; unbiased, "
        "so it may be slightly below 0. Interval as of FD, widened by the choice of the subsets.",
    ),
    of_pictures(distance),
)
