"""Which student of a front is the one: what is asked for, the choice, and its reason in words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from edgekd.errors import GateError
from edgekd.recipe_search import Goal
from edgekd.search.candidate import Candidate, Cost, Scored
from edgekd.search.describe import bytes_text, describe, milliseconds_text
from edgekd.search.front import loss_values, non_dominated, pareto_front

DEFAULT_QUALITY: Final = 0.9
_ROUNDS = 3  # of measuring until the chosen one is among the measured


@dataclass(frozen=True)
class TeacherPoint:
    """The teacher as it draws today, on the same target.

    Attributes:
        latency_ms: of one picture.
        unet_config: what students are described against.
    """

    latency_ms: float
    size_bytes: int
    unet_config: Mapping[str, Any]


@dataclass(frozen=True)
class Chosen:
    """A point of a front, and why it is the one."""

    point: Scored
    reason: str


@dataclass(frozen=True)
class Settled:
    """A front whose chosen point was measured whole; see `settle`."""

    front: tuple[Scored, ...]
    chosen: Chosen


def choose(front: Sequence[Scored], goal: Goal, teacher: TeacherPoint) -> Chosen:
    """The point of a front that meets a goal best.

    Raises:
        GateError: none meets it; the message names the fastest that exists.
    """
    within = within_limit(fitting(front, goal), goal, teacher)
    if not within:
        raise _impossible(front, goal, teacher)
    if _limit_ms(goal, teacher) is not None:
        point, rule = (
            _best(within),
            f"the best expected quality within {limit_text(goal, teacher)}",
        )
    elif goal.min_quality is not None:
        point, rule = _fastest(within), f"the fastest that keeps {_share(goal.min_quality)}"
    else:
        enough = [one for one in within if one.quality >= DEFAULT_QUALITY]
        point = _fastest(enough) if enough else _best(within)
        share = _share(DEFAULT_QUALITY)
        rule = (
            f"the fastest that keeps {share}"
            if enough
            else (f"the best expected quality, as none keeps {share}")
        )
    if goal.max_size_bytes is not None:
        rule += f", in at most {bytes_text(goal.max_size_bytes)}"
    return Chosen(point, f"{rule}: {describe(point.candidate, teacher.unet_config)}")


def within_limit(points: Sequence[Scored], goal: Goal, teacher: TeacherPoint) -> Sequence[Scored]:
    """Those within the goal's limit on latency by its margin; where none is, within it."""
    limit = _limit_ms(goal, teacher)
    if limit is None:
        return points
    safe = [one for one in points if one.cost.latency_ms <= limit * (1 - goal.margin)]
    return safe or [one for one in points if one.cost.latency_ms <= limit]


def fitting(points: Sequence[Scored], goal: Goal) -> Sequence[Scored]:
    """Those whose quality and size are as asked for."""
    most, least = goal.max_size_bytes, goal.min_quality
    small = [one for one in points if most is None or one.cost.size_bytes <= most]
    return [one for one in small if least is None or one.quality >= least]


def _limit_ms(goal: Goal, teacher: TeacherPoint) -> float | None:
    return teacher.latency_ms / goal.speedup if goal.speedup is not None else goal.latency_ms


def limit_text(goal: Goal, teacher: TeacherPoint) -> str:
    """The goal's limit on latency, in words."""
    text = milliseconds_text(_limit_ms(goal, teacher) or 0.0)
    if goal.speedup is None:
        return text
    return f"{text} ({goal.speedup:g}x the teacher's {milliseconds_text(teacher.latency_ms)})"


def _share(quality: float) -> str:
    return f"at least {quality:g} of the teacher's expected quality"


def _fastest(points: Sequence[Scored]) -> Scored:
    return min(points, key=lambda one: (one.cost.latency_ms, -one.quality))


def _best(points: Sequence[Scored]) -> Scored:
    return max(points, key=lambda one: (one.quality, -one.cost.latency_ms))


def _nearest(front: Sequence[Scored], goal: Goal) -> Scored:
    """The fastest student, of those with the quality and the size if there are any."""
    return _fastest(fitting(front, goal) or front)


def _impossible(front: Sequence[Scored], goal: Goal, teacher: TeacherPoint) -> GateError:
    demands = []
    if _limit_ms(goal, teacher) is not None:
        demands.append(f"draw a picture within {limit_text(goal, teacher)}")
    if goal.min_quality is not None:
        demands.append(f"keep {_share(goal.min_quality)}")
    if goal.max_size_bytes is not None:
        demands.append(f"fit into {bytes_text(goal.max_size_bytes)}")
    wanted = " and ".join(demands)
    if not front:
        return GateError(f"some student must {wanted}", "no candidate at all")
    fastest, fit = _nearest(front, goal), fitting(front, goal)
    found = (
        f"{milliseconds_text(fastest.cost.latency_ms)} "
        f"({'measured' if fastest.measured else 'predicted'}) from the fastest that exists"
        f"{' with that' if fit and len(demands) > 1 else ''} "
        f"(quality {fastest.quality:.2f}, {bytes_text(fastest.cost.size_bytes)}: "
        f"{describe(fastest.candidate, teacher.unet_config)})"
    )
    if not fit:
        smallest = min(one.cost.size_bytes for one in front)
        found += (
            f", a quality of {_best(front).quality:.2f} at most and {bytes_text(smallest)} at least"
        )
    return GateError(f"some student must {wanted}", found)


def finalists(front: Sequence[Scored], chosen: Scored, count: int) -> tuple[Scored, ...]:
    """Whom to measure whole: the chosen, its neighbours on the front, and both ends.

    Neighbours are those of latency and quality alone; what is on the front for its size is none.

    Args:
        count: how many at most; the chosen first, then its two neighbours, the ends, and further
            neighbours.
    """
    plane = [front[row] for row in non_dominated(loss_values(front)[:, :2])]
    place = plane.index(chosen)
    near = [
        plane[place + side * step]
        for step in range(1, len(plane))
        for side in (-1, 1)
        if 0 <= place + side * step < len(plane)
    ]
    return tuple(dict.fromkeys([chosen, *near[:2], plane[0], plane[-1], *near[2:]]))[:count]


def settle(
    points: Sequence[Scored],
    goal: Goal,
    teacher: TeacherPoint,
    measure: Callable[[Sequence[Candidate]], Sequence[Cost]],
    count: int,
    bounds: Mapping[str, float] | None = None,
) -> Settled:
    """Measure the finalists whole, and choose again, until the chosen one was measured.

    A goal is refused only after the fastest student was measured.

    Args:
        points: everything that was scored, one or more: where a finalist is slower than was
            predicted, another may take its place on the front.
        count: finalists of a round.
        bounds: most of a field of `Cost`: the target's budgets. Who was measured above one is
            none of its students.

    Raises:
        GateError: as `choose`, and the fastest that it names was measured; or all were measured
            above a bound.
    """
    known, most_of = {one.candidate: one for one in points}, bounds or {}

    def take(asked: Sequence[Scored]) -> None:
        new = [one for one in asked if not one.measured]
        for one, cost in zip(new, measure([one.candidate for one in new]), strict=True):
            known[one.candidate] = replace(one, cost=cost, measured=True)
            over = [name for name, most in most_of.items() if getattr(cost, name) > most]
            if over:
                del known[one.candidate]
            if not known:
                found = [f"{name} {getattr(cost, name):g} of {most_of[name]:g}" for name in over]
                raise GateError("some student must keep to the target's budgets", ", ".join(found))

    for _ in range(_ROUNDS):
        front = pareto_front(known.values())
        try:
            chosen = choose(front, goal, teacher)
        except GateError:
            break
        if chosen.point.measured:
            return Settled(front, chosen)
        take(finalists(fitting(front, goal), chosen.point, count))
    for _ in range(_ROUNDS):
        nearest = _nearest(pareto_front(known.values()), goal)
        try:
            return _settled(known.values(), goal, teacher)
        except GateError:
            if nearest.measured:
                raise
        take([nearest])
    return _settled(known.values(), goal, teacher)


def _settled(points: Collection[Scored], goal: Goal, teacher: TeacherPoint) -> Settled:
    """With a choice among the measured points; it is on the front, although something better may
    be predicted.

    Raises:
        GateError: as `choose`.
    """
    front = pareto_front(points)
    chosen = choose(pareto_front(one for one in points if one.measured), goal, teacher)
    if chosen.point not in front:
        front = tuple(sorted((*front, chosen.point), key=lambda one: one.cost.latency_ms))
    return Settled(front, chosen)
