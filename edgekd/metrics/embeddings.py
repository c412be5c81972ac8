"""Views of feature sets in two dimensions, PCA and t-SNE, and how alike two sets are in all theirs.

Likeness is of two networks' features of the same inputs: linear CKA, shared nearest neighbours and
Procrustes distance. None of them changes with rotation, shift or scale of a set.

Shapes: features [N,D]; points [N,2].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError
from edgekd.metrics.fid import Array, check_features

# t-SNE's authors reduce to about this many dimensions first (van der Maaten and Hinton, 2008).
TSNE_INPUT_DIMENSIONS = 50
MIN_TSNE_SAMPLES = 5


class Pca(NamedTuple):
    """`points`: [N,components]; `explained`: share of the variance along each component."""

    points: Array
    explained: Array


def pca(features: npt.NDArray[Any], components: int = 2) -> Pca:
    """Principal components of features [N,D].

    Each component's sign is set so that its largest weight is positive.

    Raises:
        InputError: fewer samples or dimensions than components; values not finite.
    """
    x = check_features(features, minimum=components)
    if x.shape[1] < components:
        raise InputError("`components <= D` must hold", f"{components} of {x.shape[1]}")
    centred = x - x.mean(axis=0)
    left, singular, right = np.linalg.svd(centred, full_matrices=False)
    largest = np.abs(right[:components]).argmax(axis=1)
    signs = np.where(right[np.arange(components), largest] < 0, -1.0, 1.0)
    variance = singular**2
    explained = variance[:components] / max(variance.sum(), np.finfo(np.float64).tiny)
    return Pca(left[:, :components] * singular[:components] * signs, explained)


def fitting_perplexity(samples: int) -> float:
    """t-SNE's perplexity: 30, or (N-1)/3 where there are few samples."""
    return min(30.0, (samples - 1) / 3)


def tsne(features: npt.NDArray[Any], seed: int = 0) -> Array:
    """t-SNE (van der Maaten and Hinton, 2008) of features [N,D], points [N,2].

    Its perplexity is `fitting_perplexity`.

    Raises:
        InputError: fewer than 5 samples, or values not finite.
    """
    from sklearn.manifold import TSNE

    x = check_features(features, minimum=MIN_TSNE_SAMPLES)
    reduced = pca(x, min(TSNE_INPUT_DIMENSIONS, *x.shape)).points
    model = TSNE(
        n_components=2,
        perplexity=fitting_perplexity(len(x)),
        init="pca",
        random_state=seed,
        n_jobs=1,
    )
    return np.asarray(model.fit_transform(reduced), dtype=np.float64)


def project_together(
    sets: Mapping[str, npt.NDArray[Any]], project: Callable[[Array], Array]
) -> dict[str, Array]:
    """Project several feature sets into one picture: fitted on all, split by name again."""
    points = project(np.concatenate([check_features(x, minimum=1) for x in sets.values()]))
    bounds = np.cumsum([len(x) for x in sets.values()])[:-1]
    return dict(zip(sets, np.split(points, bounds), strict=True))


def _centred_pair(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> tuple[Array, Array]:
    """Two sets of the same inputs, each with mean 0.

    Raises:
        InputError: row counts differ, or see `check_features`.
    """
    a, b = check_features(x), check_features(y)
    if len(a) != len(b):
        raise InputError("both activations must be of the same inputs", f"{len(a)} and {len(b)}")
    return a - a.mean(axis=0), b - b.mean(axis=0)


def linear_cka(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
    """Linear centred kernel alignment (Kornblith et al., 2019, arXiv:1905.00414), in [0,1].

    `‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖)` with Frobenius norms, on centred columns. 1: equal up to rotation,
    shift and scale.

    Args:
        x: activations [N,D1] of one network.
        y: activations [N,D2] of another, on the same N inputs.

    Raises:
        InputError: row counts differ, fewer than 2 rows, values not finite, or a constant set.
    """
    a, b = _centred_pair(x, y)
    # Gram matrices [N,N] give the same norms: ‖YᵀX‖² = <XXᵀ, YYᵀ>.
    gram_a, gram_b = a @ a.T, b @ b.T
    scale = np.linalg.norm(gram_a) * np.linalg.norm(gram_b)
    if scale == 0:
        raise InputError("activations must vary over the inputs", "a constant set")
    return float((gram_a * gram_b).sum() / scale)


def knn_overlap(x: npt.NDArray[Any], y: npt.NDArray[Any], neighbours: int) -> float:
    """Mean share of each input's `neighbours` nearest other inputs that both sets agree on.

    Euclidean distances; of equal ones the earlier input is nearer. Sets that have nothing in
    common share `neighbours / (N - 1)`.

    Args:
        x: features [N,D1].
        y: features [N,D2] of the same N inputs.

    Raises:
        InputError: row counts differ, values not finite, or `neighbours` not in [1, N - 1].
    """
    a, b = _centred_pair(x, y)
    if not 1 <= neighbours < len(a):
        raise InputError("`1 <= neighbours < N` must hold", f"{neighbours} of {len(a)}")
    near_a, near_b = _nearest(a, neighbours), _nearest(b, neighbours)
    return float((near_a & near_b).sum() / (len(a) * neighbours))


def _nearest(x: Array, neighbours: int) -> npt.NDArray[np.bool_]:
    """[N,N]: whether an input (column) is among the nearest of another (row)."""
    squares = (x**2).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * x @ x.T
    np.fill_diagonal(distances, np.inf)  # nobody is a neighbour of its own
    chosen = np.argsort(distances, axis=1, kind="stable")[:, :neighbours]
    near = np.zeros(distances.shape, dtype=np.bool_)
    np.put_along_axis(near, chosen, values=True, axis=1)
    return near


def procrustes(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
    """Disparity in [0,1] of two sets after the best rotation, shift and scale (Gower, 1975).

    `1 - (Σ s_i)²` with the singular values of `XᵀY` of centred sets of norm 1: what is left of
    `min ‖X - s Y R‖²`. A narrower set counts as padded with zeros, which adds no singular value.

    Args:
        x: features [N,D1].
        y: features [N,D2] of the same N inputs.

    Raises:
        InputError: row counts differ, values not finite, or a constant set.
    """
    a, b = _centred_pair(x, y)
    scale = np.linalg.norm(a) * np.linalg.norm(b)
    if scale == 0:
        raise InputError("activations must vary over the inputs", "a constant set")
    similarity = np.linalg.svd(_narrow(a).T @ _narrow(b), compute_uv=False).sum() / scale
    return float(min(1.0, max(0.0, 1 - similarity**2)))


def turned_onto(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> tuple[Array, Array]:
    """Both sets centred and of norm 1, y after the rotation and scale that `procrustes` measures.

    Args:
        x: features [N,D1].
        y: features [N,D2] of the same N inputs.

    Returns:
        Two sets in one space, of the greater width; of N dimensions where that is more.

    Raises:
        InputError: as `procrustes`.
    """
    a, b = _centred_pair(x, y)
    norms = np.linalg.norm(a), np.linalg.norm(b)
    if not all(norms):
        raise InputError("activations must vary over the inputs", "a constant set")
    a, b = _narrow(a / norms[0]), _narrow(b / norms[1])
    width = max(a.shape[1], b.shape[1])
    a, b = (np.pad(z, ((0, 0), (0, width - z.shape[1]))) for z in (a, b))
    left, singular, right = np.linalg.svd(b.T @ a)
    return a, singular.sum() * (b @ left @ right)


def _narrow(x: Array) -> Array:
    """The same inner products between rows in at most N columns: all principal components."""
    if x.shape[1] <= len(x):
        return x
    left, singular, _ = np.linalg.svd(x, full_matrices=False)
    return np.asarray(left * singular)
