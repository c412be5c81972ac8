"""How alike two networks' features of the same inputs are, and how alike chance makes them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekd.metrics.metric import Floats
from edgekd.report.features_schema import Likeness, Nearness

_DECIMALS = 4
_SHUFFLES = 3
# Of more pictures the figures change in their third decimal, and cost minutes.
_MAX_PICTURES = 256


def fitting_neighbours(samples: int) -> int:
    """Neighbours of the overlap: 10, or a sixth of few samples."""
    return max(1, min(10, samples // 6))


def nearness(x: Floats, y: Floats, seed: int = 0) -> Nearness:
    """Figures of two sets [N,D1] and [N,D2], and their mean over shuffles of one of them.

    Raises:
        InputError: see `edgekd.metrics.embeddings`; a constant set, for one.
    """
    random = np.random.default_rng(seed)
    shuffled = np.array([_figures(x, random.permutation(y)) for _ in range(_SHUFFLES)])
    return Nearness(**_named(_figures(x, y)), chance=Likeness(**_named(shuffled.mean(axis=0))))


def _figures(x: Floats, y: Floats) -> tuple[float, float, float]:
    from edgekd.metrics.embeddings import knn_overlap, linear_cka, procrustes

    return linear_cka(x, y), knn_overlap(x, y, fitting_neighbours(len(x))), procrustes(x, y)


def _named(figures: tuple[float, ...]) -> dict[str, float]:
    names = ("cka", "knn_overlap", "procrustes")
    return {
        name: round(float(value), _DECIMALS) for name, value in zip(names, figures, strict=True)
    }


def picture_nearness(sets: Mapping[str, Floats], teacher: str) -> dict[str, Nearness]:
    """Each row's picture features against the teacher's for the same prompts and noise.

    Args:
        sets: features [N,D] by row.
        teacher: one of them, unless it failed or the run was stopped before it.
    """
    if teacher not in sets:
        return {}
    theirs = sets[teacher][:_MAX_PICTURES]
    return {
        name: nearness(theirs, features[:_MAX_PICTURES])
        for name, features in sets.items()
        if name != teacher and _varies(theirs) and _varies(features[:_MAX_PICTURES])
    }


def _varies(features: Floats) -> bool:
    """A row may draw one picture over and over; nothing can be said of the likeness of that."""
    return bool(np.ptp(features, axis=0).any())
