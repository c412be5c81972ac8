"""CLIP maximum mean discrepancy: Jayasumana et al., 2024, arXiv:2401.09603.

The squared MMD of CLIP's image embeddings (rows of length 1) with a Gaussian kernel of width 10,
times 1000. As in the authors' code, pairs of an image with itself count: the estimate is at least
0, and too large by about (1 - mean kernel)/N on either side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.metrics.bootstrap import mean_interval, mmd_influences
from edgekd.metrics.caption_fit import halves
from edgekd.metrics.extractors.clip import CLIP
from edgekd.metrics.fid import check_features, check_pair
from edgekd.metrics.metric import (
    Descriptor,
    Figure,
    Metric,
    Pictures,
    Reference,
    of_extraction,
)

SIGMA = 10.0
SCALE = 1000.0
_BLOCK = 500


def kernel(u: npt.NDArray[Any], v: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """exp(-|u - v|² / 2·10²) of all pairs of rows."""
    squares = (u**2).sum(axis=1)[:, None] + (v**2).sum(axis=1) - 2 * u @ v.T
    return np.asarray(np.exp(-squares.clip(min=0) / (2 * SIGMA**2)))


def mean_kernel(u: npt.NDArray[Any], v: npt.NDArray[Any]) -> float:
    """Mean over all pairs, block by block."""
    sums = [kernel(u[start : start + _BLOCK], v).sum() for start in range(0, len(u), _BLOCK)]
    return float(np.sum(sums) / (len(u) * len(v)))


def cmmd(embeddings_a: npt.NDArray[Any], embeddings_b: npt.NDArray[Any]) -> float:
    """CMMD of embeddings [N,D] and [M,D], rows of length 1.

    Raises:
        InputError: see `check_features`; or the dimensions differ.
    """
    a, b = check_features(embeddings_a), check_features(embeddings_b)
    check_pair(a, b)
    return SCALE * (mean_kernel(a, a) + mean_kernel(b, b) - 2 * mean_kernel(a, b))


def distance(pictures: Pictures, reference: Reference) -> Figure:
    sets = (pictures.extracted, reference.extracted)
    # The kernel is all but 1 everywhere: in float32 little would be left of its differences.
    own, others = (halves(rows[CLIP.name])[0].astype(np.float64) for rows in sets)
    value = cmmd(own, others)
    low, high = mean_interval(value + SCALE * mmd_influences(own, others, kernel), reference.seed)
    return Figure(value=value, low=low, high=high)


METRIC = Metric(
    Descriptor(
        name="cmmd",
        label="CMMD",
        title="CMMD to real images",
        direction="lower",
        source="pictures",
        places=("column",),
        rank=74,
        full_name="CMMD-{clip}-n{samples}",
        note="1000 x squared maximum mean discrepancy of CLIP's image embeddings, Gaussian kernel "
        "of width 10, between {samples} pictures and {reference} other held-out images; with the "
        "authors' bias, about equal for all rows; interval as of FD.",
    ),
    of_extraction(CLIP, distance),
    CLIP,
)
