"""Features of real and drawn pictures in two dimensions, to look at only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

from edgekd.benchmark.cache import Cache
from edgekd.metrics.metric import Floats
from edgekd.report.features_schema import Projection

REFERENCE = "reference images"
REAL = "real"
MAX_REFERENCE = 400
_MAX_STUDENTS = 3
_MAX_PICTURES = 200
_MIN_TSNE = 50
_DECIMALS = 3


def projections(sets: Mapping[str, Floats], seed: int, note: str = "") -> list[Projection]:
    """t-SNE of all sets together, where they are not too few, and PCA in the basis of all.

    Args:
        sets: [N,D] each, of one D.
        note: how they came into one space, for the name of the method.
    """
    from edgekd.metrics.embeddings import fitting_perplexity, pca, project_together, tsne

    total, found = sum(len(features) for features in sets.values()), []
    if total >= _MIN_TSNE:
        points = project_together(sets, lambda x: tsne(x, seed))
        perplexity = round(fitting_perplexity(total), 1)
        found.append(
            Projection(
                method=f"t-SNE{note}", points=_rounded(points), seed=seed, perplexity=perplexity
            )
        )
    basis = pca(np.concatenate(list(sets.values())))
    points = project_together(sets, lambda _: basis.points)
    first, second = (round(float(share), _DECIMALS) for share in basis.explained)
    found.append(
        Projection(method=f"PCA{note}", points=_rounded(points), explained=(first, second))
    )
    return found


def _rounded(points: Mapping[str, np.ndarray]) -> dict[str, list[tuple[float, float]]]:
    """Of about equal precision, whatever the scale of the features."""
    largest = max(float(np.abs(xy).max()) for xy in points.values()) or 1.0
    digits = max(0, 3 - int(np.floor(np.log10(largest))))
    return {name: np.round(xy, digits).tolist() for name, xy in points.items()}


def picture_projections(
    sets: Mapping[str, Floats], reference: Floats, seed: int, cache: Cache
) -> list[Projection]:
    """Picture features of the rows among those of real images.

    Args:
        sets: features [N,D] of rows, in the order in which they are shown.
        reference: of real images that are no prompts.
    """
    chosen = np.random.default_rng(seed).permutation(len(reference))[:MAX_REFERENCE]
    together = {REFERENCE: reference[np.sort(chosen)]}
    together |= {name: features[:_MAX_PICTURES] for name, features in sets.items()}
    key = [[name, _hash(features)] for name, features in together.items()]

    def measure() -> list[dict[str, object]]:
        return [one.model_dump(mode="json") for one in projections(together, seed)]

    return [
        Projection.model_validate(one) for one in cache.json("projections", [key, seed], measure)
    ]


def _hash(features: Floats) -> str:
    return hashlib.sha256(features.tobytes()).hexdigest()


def shown_sets(
    sets: Mapping[str, Floats], teacher: str, student: str | None, students: Iterable[str]
) -> dict[str, Floats]:
    """What is projected: real images, the teacher and a few students, the headline's first."""
    others = [name for name in students if name in sets and name != student]
    first = [student] if student is not None else []
    chosen = [REAL, teacher, *[*first, *others][:_MAX_STUDENTS]]
    return {name: sets[name] for name in chosen if name in sets}
