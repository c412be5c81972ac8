"""Views of feature sets: PCA and t-SNE in two dimensions, and linear CKA between two networks.

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


def tsne(features: npt.NDArray[Any], seed: int = 0, perplexity: float = 30.0) -> Array:
    """t-SNE (van der Maaten and Hinton, 2008) of features [N,D], points [N,2].

    The perplexity is lowered to (N-1)/3 where there are few samples.

    Raises:
        InputError: fewer than 5 samples, or values not finite.
    """
    from sklearn.manifold import TSNE

    x = check_features(features, minimum=MIN_TSNE_SAMPLES)
    reduced = pca(x, min(TSNE_INPUT_DIMENSIONS, *x.shape)).points
    model = TSNE(
        n_components=2,
        perplexity=min(perplexity, (len(x) - 1) / 3),
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
    a, b = check_features(x), check_features(y)
    if len(a) != len(b):
        raise InputError("both activations must be of the same inputs", f"{len(a)} and {len(b)}")
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    # Gram matrices [N,N] give the same norms: ‖YᵀX‖² = <XXᵀ, YYᵀ>.
    gram_a, gram_b = a @ a.T, b @ b.T
    scale = np.linalg.norm(gram_a) * np.linalg.norm(gram_b)
    if scale == 0:
        raise InputError("activations must vary over the inputs", "a constant set")
    return float((gram_a * gram_b).sum() / scale)
