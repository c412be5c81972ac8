"""Fréchet distance between two sets of features, and FID: on the original Inception features.

The formula is that of Heusel et al., 2017, arXiv:1706.08500, eq. 6; only on torch-fidelity's
Inception with the user's weights is it called FID, on any other network's features FD. It depends
on the number of samples, the resize and the extractor, which are part of its name.

Shapes: features [N,D]; mean [D]; covariance [D,D]. All arithmetic is float64.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError
from edgekd.metrics.bootstrap import mean_interval
from edgekd.metrics.extractors.inception import INCEPTION
from edgekd.metrics.metric import (
    Descriptor,
    Figure,
    Floats,
    Metric,
    Pictures,
    Reference,
    of_extraction,
)

Array = npt.NDArray[np.float64]


class Gaussian(NamedTuple):
    """Mean [D] and a root [K,D] of the covariance: rootᵀ·root is the covariance."""

    mean: Array
    root: Array


class Statistics(NamedTuple):
    """Mean [D] and unbiased covariance [D,D] of `samples` feature vectors."""

    mean: Array
    covariance: Array
    samples: int


def fd_name(extractor: str, samples: int) -> str:
    """`FD-efficientnet_lite0-bilinear128-n256`: distance, extractor, resize, generated samples."""
    return f"FD-{extractor}-n{samples}"


def check_features(features: npt.NDArray[Any], minimum: int = 2) -> Array:
    """Features as float64 [N,D].

    Raises:
        InputError: not a matrix, fewer than `minimum` rows, or a value that is not finite.
    """
    if features.ndim != 2:
        raise InputError("features must be a matrix [N,D]", f"shape {list(features.shape)}")
    if len(features) < minimum:
        raise InputError(
            f"at least {minimum} samples are needed", f"{len(features)}", "Generate more images."
        )
    if not np.isfinite(features).all():
        raise InputError("features must be finite", "NaN or infinity")
    return np.asarray(features, dtype=np.float64)


def check_pair(a: Array, b: Array) -> None:
    if a.shape[1:] != b.shape[1:]:
        raise InputError(
            "both sets must come from one extractor",
            f"{a.shape[1]} and {b.shape[1]} dimensions",
        )


def statistics(features: npt.NDArray[Any]) -> Statistics:
    """Mean and unbiased covariance of features [N,D].

    Raises:
        InputError: see `check_features`; two samples are needed.
    """
    x = check_features(features)
    mean = x.mean(axis=0)
    centred = x - mean
    return Statistics(mean, centred.T @ centred / (len(x) - 1), len(x))


def _root(covariance: Array) -> Array:
    """R with RᵀR = covariance, for a symmetric positive semi-definite matrix of any rank."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    # Rounding makes the zeros of a rank-deficient matrix slightly negative.
    return np.asarray(np.sqrt(values.clip(min=0))[:, None] * vectors.T)


def _distance(mean_a: Array, root_a: Array, mean_b: Array, root_b: Array) -> float:
    """|μa - μb|² + tr(A) + tr(B) - 2 tr((A^½ B A^½)^½), from R_a, R_b with RᵀR = A, B.

    The eigenvalues of A·B are the squared singular values of R_a·R_bᵀ, so the last trace is the
    sum of these singular values: no square root of a nearly singular product is taken.
    """
    cross = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    shift = mean_a - mean_b
    distance = shift @ shift + (root_a**2).sum() + (root_b**2).sum() - 2 * cross
    return max(0.0, float(distance))


def frechet_distance(
    mu1: npt.NDArray[Any],
    sigma1: npt.NDArray[Any],
    mu2: npt.NDArray[Any],
    sigma2: npt.NDArray[Any],
) -> float:
    """Squared Fréchet (2-Wasserstein) distance between two Gaussians.

    Args:
        mu1, mu2: means [D].
        sigma1, sigma2: covariances [D,D], of any rank.

    Raises:
        InputError: shapes differ, or a value is not finite.
    """
    arrays = [np.asarray(x, dtype=np.float64) for x in (mu1, sigma1, mu2, sigma2)]
    size = arrays[0].size
    if [x.shape for x in arrays] != [(size,), (size, size)] * 2:
        shapes = ", ".join(str(list(x.shape)) for x in arrays)
        raise InputError("means must be [D] and covariances [D,D], with one D", shapes)
    if not all(np.isfinite(x).all() for x in arrays):
        raise InputError("means and covariances must be finite", "NaN or infinity")
    return _distance(arrays[0], _root(arrays[1]), arrays[2], _root(arrays[3]))


def gaussian(features: npt.NDArray[Any]) -> Gaussian:
    """The Gaussian with the mean and unbiased covariance of features [N,D].

    The centred samples are a root, and the triangle of their QR decomposition is a smaller one
    where N > D.

    Raises:
        InputError: see `check_features`; two samples are needed.
    """
    x = check_features(features)
    mean = x.mean(axis=0)
    root = (x - mean) / np.sqrt(len(x) - 1)
    tall = len(x) > x.shape[1]
    return Gaussian(mean, np.asarray(np.linalg.qr(root, mode="r") if tall else root))


def fd(features_a: npt.NDArray[Any], features_b: npt.NDArray[Any]) -> float:
    """Fréchet distance between two feature sets [N,D] and [M,D]; N and M may be below D.

    Raises:
        InputError: see `check_features`; or the dimensions differ.
    """
    a, b = gaussian(features_a), gaussian(features_b)
    check_pair(a.root, b.root)
    return _distance(*a, *b)


def fd_influences(features: npt.NDArray[Any], reference: Gaussian) -> tuple[float, Array]:
    """`fd` to a reference, and how much each of the N samples moves it, [N] with mean 0.

    The distance is a smooth function of the samples' weights w (mean and covariance of the weighted
    samples), so to first order a resampled set has the distance `fd + Σ w_i·influence_i`. Its
    derivative is 2 (μa - μb)·dμ + tr((I - T) dA), with T the optimal transport map between both
    Gaussians. With M = R_a·R_bᵀ = U·S·Vᵀ a sample's share of tr(T A) = ΣS is |x R_bᵀ V S^-½|².
    """
    x = check_features(features)
    check_pair(x, reference.root)
    own = gaussian(x)
    _, singular, right = np.linalg.svd(own.root @ reference.root.T, full_matrices=False)
    shift = own.mean - reference.mean
    squares = (own.root**2).sum() + (reference.root**2).sum()
    value = max(0.0, float(shift @ shift + squares - 2 * singular.sum()))
    kept = singular > 1e-12 * max(singular[0], np.finfo(np.float64).tiny)
    basis = reference.root.T @ (right[kept].T / np.sqrt(singular[kept]))
    centred = x - own.mean
    squared = (centred**2).sum(axis=1) - ((centred @ basis) ** 2).sum(axis=1)
    influences = 2 * centred @ shift + squared * len(x) / (len(x) - 1)
    return value, influences - influences.mean()


@lru_cache(maxsize=8)
def reference_gaussian(reference: Reference, extraction: str | None = None) -> Gaussian:
    """Of the reference's features, or of an extraction's: the same for every row."""
    return gaussian(reference.extracted[extraction] if extraction else reference.features)


def fd_figure(features: Floats, gaussian: Gaussian, seed: int) -> Figure:
    """The distance, and its interval by a bootstrap of its first-order expansion.

    A bootstrap of the distance itself would take a thousand decompositions, and be biased: sets
    drawn with replacement have fewer different pictures, which alone makes them more distant.
    """
    value, influences = fd_influences(features, gaussian)
    low, high = mean_interval(value + influences, seed)
    return Figure(value=value, low=max(0.0, low), high=high)


def distance(pictures: Pictures, reference: Reference) -> Figure:
    gaussian = reference_gaussian(reference, INCEPTION.name)
    return fd_figure(pictures.extracted[INCEPTION.name], gaussian, reference.seed)


METRIC = Metric(
    Descriptor(
        name="fid",
        label="FID",
        title="FID to real images",
        direction="lower",
        source="pictures",
        places=("column", "card", "summary", "plot"),
        rank=55,
        full_name="FID-{inception}-n{samples}",
        note="Fréchet distance of Inception features, as torch-fidelity computes it, between "
        "{samples} pictures and {reference} other held-out images; interval as of FD. It depends "
        "on both counts: published figures are mostly of 5,000 to 50,000.",
    ),
    of_extraction(INCEPTION, distance),
    INCEPTION,
)
