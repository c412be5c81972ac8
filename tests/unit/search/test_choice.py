import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from edgekd.errors import GateError
from edgekd.recipe_search import Goal
from edgekd.search.candidate import Candidate, Cost, Scored
from edgekd.search.choice import TeacherPoint, choose, finalists, settle
from edgekd.search.front import pareto_front
from edgekd.student.resolve import preset


@pytest.fixture(scope="module")
def teacher(starter_teacher) -> TeacherPoint:
    config = json.loads(Path(starter_teacher / "unet" / "config.json").read_text())
    return TeacherPoint(905.0, 30_000_000, config)


@pytest.fixture(scope="module")
def points(teacher) -> list[Scored]:
    """Quality rises with latency; the sizes of every second one are smaller."""
    archs = [preset(name, teacher.unet_config) for name in ("bk-sdm-tiny", "full")]
    found = []
    for steps, latency in enumerate((10, 20, 40, 80, 160), start=1):
        one = Candidate(arch=archs[steps % 2], decoder_width=1, steps=steps, precision="fp32")
        cost = Cost(latency, (4_000_000, 8_000_000)[steps % 2], 0)
        found.append(Scored(one, cost, 0.5 + steps / 10))
    return found


@pytest.mark.parametrize(
    ("goal", "steps", "reason"),
    [
        ({}, 4, "the fastest that keeps at least 0.9 of the teacher's expected quality: 4 steps"),
        ({"latency_ms": 45.2}, 3, "the best expected quality within 45.2 ms: 3 steps, the whole"),
        ({"speedup": 20}, 3, "within 45.2 ms (20x the teacher's 905 ms): 3 steps"),
        ({"min_quality": 0.65}, 2, "the fastest that keeps at least 0.65 of"),
        (
            {"max_size_bytes": 5_000_000},
            4,
            "0.9 of the teacher's expected quality, in at most 5 MB",
        ),
        ({"max_size_bytes": 5_000_000, "latency_ms": 79}, 2, "within 79 ms, in at most 5 MB: 2"),
        ({"min_quality": 0.6, "latency_ms": 50}, 3, "the best expected quality within 50 ms"),
    ],
)
def test_the_choice_and_its_reason(points, teacher, goal, steps, reason):
    chosen = choose(pareto_front(points), Goal(**goal), teacher)
    assert chosen.point.candidate.steps == steps
    assert reason in chosen.reason


@pytest.mark.parametrize(
    ("latency_ms", "margin", "steps"),
    [
        (42.2, 0.05, 3),
        (42.0, 0.05, 2),  # 40 ms is more than 95 % of 42
        (42.0, 0.0, 3),
        (80.0, 0.5, 3),  # just half
        (10.1, 0.05, 1),  # only one is within the limit at all
    ],
)
def test_a_margin_below_the_limit_is_left_where_it_can_be(
    points, teacher, latency_ms, margin, steps
):
    chosen = choose(points, Goal(latency_ms=latency_ms, margin=margin), teacher)
    assert chosen.point.candidate.steps == steps


def test_where_none_is_good_enough_the_best_is_chosen(points, teacher):
    chosen = choose(points[:3], Goal(), teacher)
    assert chosen.point == points[2]
    assert chosen.reason.startswith("the best expected quality, as none keeps at least 0.9 of")


def test_an_impossible_latency_names_the_fastest_that_exists(points, teacher):
    with pytest.raises(GateError) as error:
        choose(points, Goal(latency_ms=1), teacher)
    assert str(error.value) == (
        "some student must draw a picture within 1 ms, but got 10 ms (predicted) from the fastest "
        "that exists (quality 0.60, 8 MB: 1 step, the whole U-Net, fp32)"
    )
    assert error.value.exit_code == 3


def test_two_demands_that_exclude_each_other(points, teacher):
    with pytest.raises(GateError, match=r"but got 160 ms .* the fastest that exists with that"):
        choose(points, Goal(latency_ms=100, min_quality=0.95), teacher)
    with pytest.raises(GateError, match=r"quality of 1.00 at most and 4 MB at least"):
        choose(points, Goal(max_size_bytes=1), teacher)


def test_one_limit_at_a_time():
    with pytest.raises(ValidationError, match="one of `latency_ms` and `speedup` must be left out"):
        Goal(latency_ms=3, speedup=2)


def test_finalists_are_the_chosen_its_neighbours_and_both_ends(points):
    front = pareto_front(points)
    steps = [one.candidate.steps for one in finalists(front, front[2], 5)]
    assert steps == [3, 2, 4, 1, 5]
    assert finalists(front, front[0], 4) == (front[0], front[1], front[2], front[4])
    assert finalists(front[:1], front[0], 3) == front[:1]


def test_a_finalist_that_is_slower_than_predicted_gives_way(points, teacher):
    """Predicted 40 ms, measured 50: the next one within the limit is chosen, and was measured."""
    calls = []

    def measure(candidates):
        calls.append([one.steps for one in candidates])
        known = {one.candidate: one.cost for one in points}
        return [Cost(known[one].latency_ms * 1.25, known[one].size_bytes, 7) for one in candidates]

    settled = settle(points, Goal(latency_ms=42, margin=0), teacher, measure, 2)
    assert settled.chosen.point.candidate.steps == 2
    assert settled.chosen.point.measured
    assert settled.chosen.point in settled.front
    assert settled.chosen.point.cost == Cost(25.0, 4_000_000, 7)
    assert calls == [[3, 2]]
    assert [one.measured for one in settled.front] == [False, True, True, False, False]


def test_who_was_measured_above_a_budget_is_not_chosen(points, teacher):
    """Although no goal asks for a latency."""
    asked: list[int] = []
    free = settle(points, Goal(), teacher, times(points, 1.25, []), 1)
    most = {"latency_ms": free.chosen.point.cost.latency_ms - 1}
    settled = settle(points, Goal(), teacher, times(points, 1.25, asked), 1, most)
    measured = [one for one in settled.front if one.measured]
    assert settled.chosen.point in measured
    assert all(one.cost.latency_ms <= most["latency_ms"] for one in measured)
    with pytest.raises(GateError, match=r"target's budgets, but got latency_ms .* of 1"):
        settle(points, Goal(), teacher, times(points, 1.25, []), 1, {"latency_ms": 1.0})


def times(points, factor, seen):
    """Measures latencies as predicted, by a factor; which ones is kept."""

    def measure(candidates):
        seen.extend(one.steps for one in candidates)
        known = {one.candidate: one.cost for one in points}
        return [
            replace(known[one], latency_ms=factor * known[one].latency_ms) for one in candidates
        ]

    return measure


@pytest.mark.parametrize(
    ("goal", "factor", "seen", "said"),
    [
        # None is predicted to meet it: the fastest is measured all the same.
        ({"latency_ms": 1}, 1.2, [1], r"12 ms \(measured\) from the fastest that exists \("),
        (
            {"min_quality": 0.95, "latency_ms": 9},
            2.0,
            [5],
            r"320 ms \(measured\) .* with that",
        ),
        # One that is predicted to meet it does not, and those that are left are all measured.
        ({"latency_ms": 11}, 1.5, [1], r"15 ms \(measured\) from the fastest"),
        ({"latency_ms": 165}, 50.0, [5, 4, 3, 1, 2], r"500 ms \(measured\) from the fastest"),
    ],
)
def test_a_goal_is_refused_after_the_fastest_was_measured(
    points, teacher, goal, factor, seen, said
):
    asked: list[int] = []
    with pytest.raises(GateError, match=said):
        settle(points, Goal(**goal, margin=0), teacher, times(points, factor, asked), 1)
    assert asked == seen


def test_a_goal_that_the_fastest_meets_after_all(points, teacher):
    settled = settle(points, Goal(latency_ms=9, margin=0), teacher, times(points, 0.5, []), 3)
    assert settled.chosen.point.cost.latency_ms == 5


def test_a_measured_student_that_meets_the_goal_is_chosen_although_a_better_one_is_predicted(
    points, teacher
):
    """Each was the fastest as predicted, and slower when measured; the last is not measured."""
    rivals = [
        replace(one, cost=Cost(latency, 10**6, 0), quality=quality)
        for one, latency, quality in zip(
            points, (10, 11, 11.5, 11.8), (0.91, 0.92, 0.93, 0.94), strict=False
        )
    ]
    asked: list[int] = []
    settled = settle(rivals, Goal(min_quality=0.9), teacher, times(rivals, 1.2, asked), 1)
    assert asked == [1, 2, 3]
    assert settled.chosen.point == replace(rivals[0], cost=Cost(12, 10**6, 0), measured=True)
    assert settled.front == (rivals[3], settled.chosen.point)
