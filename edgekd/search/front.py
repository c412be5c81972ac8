"""The Pareto front of a search: which candidates no other one beats.

Objectives, in this order: latency of a picture (low), quality (high), size (low). All
functions take values in which lower is better; `loss_values` makes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekd.search.candidate import Candidate, Scored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def loss_values(points: Sequence[Scored]) -> Floats:
    """[n, 3] float64: log latency, negative quality, log size; lower is better in each.

    Logarithms, so that equal ratios are equal distances: what counts is "twice as fast".
    """
    values = [(one.cost.latency_ms, -one.quality, one.cost.size_bytes) for one in points]
    table = np.asarray(values, dtype=np.float64).reshape(-1, 3)
    table[:, [0, 2]] = np.log(np.maximum(table[:, [0, 2]], 1e-9))
    return table


def non_dominated(values: Floats) -> NDArray[np.int64]:
    """Rows of [n, k] that no other row equals or beats in every column, in lexical order.

    Of equal rows the first is kept. A row can only be dominated by one that comes before it in
    lexical order, so the first row that is left never is: it is kept, and what it beats goes.
    """
    order = np.lexsort(values.T[::-1])
    kept = []
    while order.size:
        first, rest = order[0], order[1:]
        kept.append(first)
        order = rest[(values[rest] < values[first]).any(axis=1)]
    return np.asarray(kept, dtype=np.int64)


def pareto_front(points: Iterable[Scored]) -> tuple[Scored, ...]:
    """The points that no other dominates, fastest first; of equal ones the first.

    Of several points of one candidate a measured one counts, else the last.
    """
    latest: dict[Candidate, Scored] = {}
    for one in points:
        if one.measured or one.candidate not in latest or not latest[one.candidate].measured:
            latest[one.candidate] = one
    unique = list(latest.values())
    return tuple(unique[row] for row in non_dominated(loss_values(unique)))


def thin(front: Sequence[Scored], count: int, keep: Sequence[Scored] = ()) -> tuple[Scored, ...]:
    """At most `count` points of a front that stand for all of it, in its order.

    The point with the nearest neighbour goes, again and again (the truncation of SPEA2, Zitzler et
    al. 2001, with one neighbour). The two ends, measured points and those in `keep` stay.
    """
    values = loss_values(front)
    spread = np.ptp(values, axis=0) if len(front) else np.ones(3)
    scaled = values / np.where(spread > 0, spread, 1.0)
    distance = np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    kept = {one.candidate for one in keep}
    protected = np.array([one.measured or one.candidate in kept for one in front])
    if len(front):
        protected[[0, int(np.argmin(values[:, 1]))]] = True
    left = np.ones(len(front), dtype=bool)
    while left.sum() > count and (left & ~protected).any():
        nearest = np.where(left & ~protected, distance[:, left].min(axis=1), np.inf)
        left[int(np.argmin(nearest))] = False
    return tuple(one for one, stays in zip(front, left, strict=True) if stays)


def hypervolume(values: Floats, reference: Floats) -> float:
    """Volume of what a set of points dominates below a reference point.

    By slicing along the last objective (While et al., IEEE TEC 10(1), 2006). The exact measure of
    a front: it grows with every point that is added to it.

    Args:
        values: [n, k], lower is better.
        reference: [k], the worst that counts.
    """
    inside = values[(values < reference).all(axis=1)]
    if not inside.size:
        return 0.0
    if inside.shape[1] == 1:
        return float(reference[0] - inside.min())
    if inside.shape[1] == 2:
        x, y = inside[np.argsort(inside[:, 0])].T
        return float(np.diff(x, append=reference[0]) @ (reference[1] - np.minimum.accumulate(y)))
    points = inside[non_dominated(inside)]
    points = points[np.argsort(points[:, -1], kind="stable")]
    thickness = np.diff(points[:, -1], append=reference[-1])
    return sum(
        float(height) * hypervolume(points[: index + 1, :-1], reference[:-1])
        for index, height in enumerate(thickness)
        if height > 0
    )
