"""How students are scored and studied, with costs and qualities that are made up."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from edgekd.errors import GateError
from edgekd.jobs import short_distillation
from edgekd.jobs.search_plan import SearchPlan, plan_search
from edgekd.jobs.search_score import compare_short, study
from edgekd.progress import Silent
from edgekd.reading import read_json
from edgekd.run_folder import open_run
from edgekd.search.candidate import Candidate, Cost, Scored
from edgekd.search.choice import Chosen, Settled, TeacherPoint


class Device:
    """Costs and qualities that fall with each choice towards the cheapest.

    Args:
        factor: of all latencies.
    """

    def __init__(self, search: SearchPlan, factor: float = 1.0) -> None:
        self._space, self._factor = search.space, factor
        self.key = str(factor)

    def _level(self, candidate: Candidate) -> int:
        chosen = self._space.choices(candidate)
        options = self._space.dimensions
        return sum(options[name].index(choice) for name, choice in chosen.items())

    def predict(self, candidate: Candidate) -> Cost:
        latency = self._factor * candidate.steps * (60 - self._level(candidate))
        return Cost(latency, 10**6, 10**7)

    def quality(self, candidate: Candidate) -> float:
        return 1 - self._level(candidate) / 100


@pytest.fixture
def search(planned) -> SearchPlan:
    few = ["search.candidates=50", "search.trials=0", "search.widths=[1.0]"]
    found = plan_search(planned(*few))
    found.folder.mkdir(parents=True)
    return found


def limited(search: SearchPlan, latency_ms: float) -> SearchPlan:
    target = search.plan.target.model_copy(update={"budgets": {"latency_ms": latency_ms}})
    return replace(search, plan=replace(search.plan, target=target))


def points(search: SearchPlan, factor: float = 1.0) -> dict[Candidate, float]:
    """Latencies of what a study holds in the end."""
    device: Any = Device(search, factor)
    outcome = study(search, "key", device, device, 60)
    return {one.candidate: one.cost.latency_ms for one in outcome.points}


def test_what_earlier_calls_found_is_scored_by_todays_measurements(search):
    first = points(search)
    again = points(search, factor=1.5)
    assert set(again) >= set(first)
    assert all(again[one] == 1.5 * latency for one, latency in first.items())


def test_what_todays_measurements_do_not_allow_is_no_choice(search):
    """One study, whose limit is first met by all."""
    bound = limited(search, 200.0)
    first = points(bound)
    slower = points(bound, factor=3.0)
    assert 200 / 3 < max(first.values()) <= 200
    assert 0 < max(slower.values()) <= 200
    with pytest.raises(GateError, match="must keep to the target's limits, but got not even"):
        points(bound, factor=1e6)


def test_a_study_that_has_no_time_knows_the_cheapest_student_in_each_precision(planned):
    asked = ["search.precisions=[fp32,int8]", "search.candidates=1", "search.trials=0"]
    search = plan_search(planned(*asked))
    search.folder.mkdir(parents=True)
    cheapest = {
        search.space.candidate({**search.space.cheapest(), "precision": name})
        for name in ("fp32", "int8")
    }
    assert cheapest <= set(points(search))


@pytest.fixture
def compared(planned, monkeypatch):
    """Compares four students by a short distillation in which more steps are better; and notes of
    what was distilled for how long."""
    notes: list[tuple[list[int], int]] = []

    def distil_here(*_: Any) -> Any:
        def evaluate(candidates, budget):
            notes.append(([one.steps for one in candidates], budget))
            return [(one, float(one.steps)) for one in candidates]

        return evaluate

    def compare(*assignments: str) -> tuple[Settled, Settled]:
        """What was settled before, and after."""
        search = plan_search(planned("search.speedup=null", *assignments))
        arch = search.space.candidate(search.space.full()).arch
        teacher = TeacherPoint(
            1000.0, 10**7, read_json(search.plan.teacher.path / "unet" / "config.json")
        )
        front = tuple(
            Scored(
                Candidate(arch=arch, decoder_width=1, steps=steps, precision="fp32"),
                Cost(10.0 * steps, 10**6 * steps, 0), quality, measured=steps != 3,
            )
            for steps, quality in ((1, 0.7), (2, 0.6), (3, 0.8), (4, 0.9))
        )  # fmt: skip
        before = Settled(front, Chosen(front[0], "the best expected quality"))
        cache: Any = SimpleNamespace(key="data")
        with open_run(search.plan.run):
            return before, compare_short(search, before, teacher, cache, (Silent(), None))

    monkeypatch.setattr(short_distillation, "distil_here", distil_here)
    return compare, notes


def test_finalists_are_compared_by_a_short_distillation_if_it_is_asked_for(compared):
    """Those that were measured within the limit, of which the best expected one is not the best."""
    compare, notes = compared
    asked = ["search.latency_ms=35", "search.margin=0", "search.short_steps=40"]
    before, after = compare(*asked)
    assert notes == [([1, 2], 40)]
    assert after.front == before.front
    assert after.chosen.point == before.front[1]
    assert after.chosen.reason.startswith(
        "of 2 within 35 ms the nearest to its teacher after 40 steps of distillation: 2 steps, "
    )
    assert compare(*asked)[1] == after
    assert notes[1:] == [([], 40)]  # what was found is kept


def test_a_finalist_that_is_too_large_is_not_compared(compared):
    compare, notes = compared
    size = "search.max_size_bytes=1500000"
    _, after = compare("search.latency_ms=35", "search.margin=0", size, "search.short_steps=40")
    assert notes == [([1], 40)]
    assert after.chosen.point.candidate.steps == 1


def test_without_short_steps_what_was_settled_stays(compared):
    compare, notes = compared
    before, after = compare("search.latency_ms=35")
    assert after == before
    assert notes == []
