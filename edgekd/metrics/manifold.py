"""Whether pictures are where real images are, and the other way round, by nearest neighbours.

A set's manifold is the union of balls around its samples, each out to the k-th nearest neighbour.
Precision and recall: Kynkäänniemi et al., 2019, arXiv:1904.06991; density and coverage: Naeem et
al., 2020, arXiv:2002.09797.

Shapes: features [N,D] of pictures, [M,D] of real images; squared distances [n,m].
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgekd.metrics.fid import Array, check_features, check_pair
from edgekd.metrics.metric import Pictures, Reference

PRC_NEIGHBOURS = 3
COVERAGE_NEIGHBOURS = 5
_BLOCK = 500


class Manifolds(NamedTuple):
    """Shares in [0,1], but density, which may be above 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def distance_blocks(a: Array, b: Array) -> Iterator[tuple[slice, Array]]:
    """Squared distances of a few rows of a [n,D] at a time to all of b [m,D]."""
    squares = (b**2).sum(axis=1)
    for start in range(0, len(a), _BLOCK):
        part = slice(start, start + _BLOCK)
        rows = a[part]
        yield part, (rows**2).sum(axis=1)[:, None] + squares - 2 * rows @ b.T


def radii(x: Array, neighbours: tuple[int, ...]) -> list[Array]:
    """Squared distance of each sample to its k-th nearest other one, for each k.

    In small sets k is at most the number of others.
    """
    found = [np.empty(len(x)) for _ in neighbours]
    places = [min(k, len(x) - 1) for k in neighbours]
    for part, distances in distance_blocks(x, x):
        # The nearest is the sample itself, at 0.
        own = np.arange(len(distances)), np.arange(len(x))[part]
        distances[own] = -1.0
        ordered = np.partition(distances, places, axis=1)
        for values, place in zip(found, places, strict=True):
            values[part] = ordered[:, place]
    return found


def manifolds(features: npt.NDArray[Any], real: npt.NDArray[Any]) -> Manifolds:
    """All four figures of pictures [N,D] and real images [M,D].

    Raises:
        InputError: see `check_features`; or the dimensions differ.
    """
    x, y = check_features(features), check_features(real)
    check_pair(x, y)
    return _manifolds(x, y, radii(y, (PRC_NEIGHBOURS, COVERAGE_NEIGHBOURS)))


def _manifolds(x: Array, y: Array, real_radii: list[Array]) -> Manifolds:
    (own,) = radii(x, (PRC_NEIGHBOURS,))
    near, wide = real_radii
    within = np.zeros(len(x), dtype=bool)
    found, covered, density = (np.zeros(len(y)) for _ in range(3))
    for part, distances in distance_blocks(y, x):
        within |= (distances <= near[part, None]).any(axis=0)
        found[part] = (distances <= own).any(axis=1)
        inside = distances < wide[part, None]
        covered[part] = inside.any(axis=1)
        density[part] = inside.sum(axis=1)
    neighbours = min(COVERAGE_NEIGHBOURS, len(y) - 1)
    return Manifolds(
        precision=float(within.mean()),
        recall=float(found.mean()),
        density=float(density.sum() / (neighbours * len(x))),
        coverage=float(covered.mean()),
    )


@lru_cache(maxsize=2)
def _reference_radii(reference: Reference) -> list[Array]:
    return radii(check_features(reference.features), (PRC_NEIGHBOURS, COVERAGE_NEIGHBOURS))


@lru_cache(maxsize=1)
def manifolds_of(pictures: Pictures, reference: Reference) -> Manifolds:
    """On the shipped features; four metrics ask for the same."""
    x, y = check_features(pictures.features), check_features(reference.features)
    check_pair(x, y)
    return _manifolds(x, y, _reference_radii(reference))
