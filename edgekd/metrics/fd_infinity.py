"""FD extrapolated to infinitely many pictures: Chong and Forsyth, 2020, arXiv:1911.07023.

FD of N pictures is about FD∞ + c/N, so a line through its values at several N, over 1/N, meets the
axis at FD∞. Only the pictures' number is extrapolated, not the reference's.
"""

from __future__ import annotations

import numpy as np

from edgekd.metrics.fid import Array, Gaussian, check_features, reference_gaussian
from edgekd.metrics.metric import (
    Descriptor,
    Figure,
    Floats,
    Measurements,
    Metric,
    Pictures,
    Reference,
)

# The pictures are cut into so many equal parts, and their distances averaged.
PARTS = (1, 2, 4)
# Fewer in the smallest part, and the distance says more on their number than on the pictures.
MIN_PART = 100


def part_distance(x: Array, projected: Array, reference: Gaussian) -> float:
    """`fd` of features [N,D] to a reference by their products [N,K] with its root.

    By eigenvalues, whose rounding is far below what an extrapolation can tell.
    """
    mean, centred = x.mean(axis=0), projected - projected.mean(axis=0)
    gram = centred @ centred.T if len(x) < centred.shape[1] else centred.T @ centred
    squares = np.linalg.eigvalsh(gram / (len(x) - 1)).clip(min=0)
    shift = mean - reference.mean
    variance = ((x - mean) ** 2).sum() / (len(x) - 1)
    return float(shift @ shift + variance + (reference.root**2).sum() - 2 * np.sqrt(squares).sum())


def fd_infinity(features: Floats, reference: Gaussian, seed: int) -> float:
    """FD∞ of features [N,D]: least squares over the parts of one random order.

    Rows are put in order before, so that the parts do not depend on how they come.

    Raises:
        InputError: see `check_features`.
    """
    x = check_features(features, minimum=2 * max(PARTS))
    x = x[np.lexsort(x.T[:4])][np.random.default_rng(seed).permutation(len(x))]
    projected = x @ reference.root.T
    inverse, distances = [], []
    for parts in PARTS:
        size = len(x) // parts
        cuts = [slice(part * size, (part + 1) * size) for part in range(parts)]
        found = [part_distance(x[cut], projected[cut], reference) for cut in cuts]
        inverse.append(1 / size)
        distances.append(np.mean(found))
    return float(np.polyfit(inverse, distances, 1)[1])


def extrapolated(pictures: Pictures, reference: Reference) -> Figure | None:
    if len(pictures.features) < MIN_PART * max(PARTS):
        return None
    gaussian = reference_gaussian(reference)
    return Figure(value=fd_infinity(pictures.features, gaussian, reference.seed))


def measure(found: Measurements) -> Figure | None:
    return None if found.pictures is None else extrapolated(found.pictures, found.reference)


METRIC = Metric(
    Descriptor(
        name="fd_infinity",
        label="FD∞",
        title="FD to real images, extrapolated",
        direction="lower",
        source="pictures",
        places=(),
        rank=65,
        full_name="FD_infinity-{extractor}-n{samples}",
        note="FD extrapolated over 1/N to infinitely many pictures, from all, halves and quarters "
        f"of them; none below {MIN_PART * max(PARTS)} pictures. The bias by the {{reference}} "
        "images of the reference stays.",
    ),
    measure,
)
