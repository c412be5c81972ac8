"""Distances between two sets of features: Fréchet (FD) and kernel (KID).

FD is the formula of the Fréchet Inception Distance (Heusel et al., 2017, arXiv:1706.08500, eq. 6)
on another network's features, so it is never called FID. KID is the unbiased squared MMD of
Bińkowski et al., 2018, arXiv:1801.01401, with their cubic kernel. Both depend on the number of
samples, the resize and the extractor: `fd_name` and `kid_name` put all of them in the name.

Shapes: features [N,D]; mean [D]; covariance [D,D]. All arithmetic is float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError

Array = npt.NDArray[np.float64]


class Statistics(NamedTuple):
    """Mean [D] and unbiased covariance [D,D] of `samples` feature vectors."""

    mean: Array
    covariance: Array
    samples: int


def fd_name(extractor: str, samples: int) -> str:
    """`FD-efficientnet_lite0-r128-n256`: distance, extractor, resize, generated samples."""
    return f"FD-{extractor}-n{samples}"


def kid_name(extractor: str, samples: int, subsets: int, subset_size: int) -> str:
    """`KID-efficientnet_lite0-r128-n256-s50x128`: as `fd_name`, then subsets x their size."""
    return f"KID-{extractor}-n{samples}-s{subsets}x{subset_size}"


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


def _check_pair(a: Array, b: Array) -> None:
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


def _feature_root(x: Array) -> tuple[Array, Array]:
    """Mean and a root of the covariance; the centred samples are one, and smaller when N < D."""
    mean = x.mean(axis=0)
    root = (x - mean) / np.sqrt(len(x) - 1)
    return mean, root if len(x) <= x.shape[1] else _root(root.T @ root)


def fd(features_a: npt.NDArray[Any], features_b: npt.NDArray[Any]) -> float:
    """Fréchet distance between two feature sets [N,D] and [M,D]; N and M may be below D.

    Raises:
        InputError: see `check_features`; or the dimensions differ.
    """
    a, b = check_features(features_a), check_features(features_b)
    _check_pair(a, b)
    return _distance(*_feature_root(a), *_feature_root(b))


def squared_mmd(x: Array, y: Array) -> float:
    """Unbiased squared MMD between x [N,D] and y [M,D], kernel k(u, v) = (u·v / D + 1)³."""
    n, m, dimensions = len(x), len(y), x.shape[1]

    def kernel(u: Array, v: Array) -> Array:
        return np.asarray((u @ v.T / dimensions + 1) ** 3)

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
    _check_pair(a, b)
    generator = np.random.default_rng(seed)
    values = [
        squared_mmd(
            a[generator.choice(len(a), subset_size, replace=False)],
            b[generator.choice(len(b), subset_size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))
