"""What the curves of a training say, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgekd.report import format as fmt

_WEIGHTED = "_weighted"
_LAST = 0.1  # part of the training that its end is judged by
_RISE = 5.0  # a term that rises so many times over its first value is named

Points = Sequence[Sequence[float]]


def training_sentences(curves: Mapping[str, Mapping[str, Points]]) -> list[str]:
    """For each run: which term most of the loss is at the end, and what rose on the way.

    Args:
        curves: run -> field of its metrics -> (step, value).
    """
    return [text for name, curve in curves.items() for text in _sentences(name, curve)]


def _sentences(name: str, curve: Mapping[str, Points]) -> list[str]:
    terms = {
        key.removesuffix(_WEIGHTED): points
        for key, points in curve.items()
        if key.endswith(_WEIGHTED) and points
    }
    ends = {term: _end(points) for term, points in terms.items()}
    whole = sum(ends.values())
    if len(terms) < 2 or whole <= 0:
        return []
    ranked = sorted(ends, key=lambda term: -ends[term])
    parts = ", ".join(f"{term} {fmt.percent(ends[term] / whole)}" for term in ranked)
    sentences = [f"{name}: {ranked[0]} dominates the loss at the end ({parts})."]
    for term, points in terms.items():
        step, peak = max(points, key=lambda point: point[1])
        first = points[0][1]
        if first > 0 and peak >= _RISE * first:
            sentences.append(
                f"{name}: {term} rose to {peak / first:.0f} times its first value at step "
                f"{step:.0f}; a lower learning rate or a longer warm-up would keep more of the "
                "weights that the student began with."
            )
    return sentences


def _end(points: Points) -> float:
    """Mean over the last part of the training."""
    last = points[-max(1, round(_LAST * len(points))) :]
    return sum(point[1] for point in last) / len(last)
