import logging
import shutil
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from fixtures.studies import (
    DIMENSIONS,
    FULL,
    SCORING,
    score,
    setting_candidate,
    study_plan,
)

from edgekd.errors import InputError
from edgekd.search.scoring import Scoring
from edgekd.search.storage import sqlite_url
from edgekd.search.study import StudyBudget, StudyOutcome, run_study

# Small: a database takes longer for a trial than all else here takes together.
BUDGET = StudyBudget(candidates=20, trials=2, seconds=600)


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> tuple[Path, StudyOutcome, int]:
    """A study's file, its outcome, and how many candidates were told of."""
    path, told = tmp_path_factory.mktemp("study") / "study.sqlite", []
    outcome = run_study(study_plan(sqlite_url(path)), SCORING, BUDGET, lambda: told.append(1))
    return path, outcome, len(told)


@pytest.fixture
def url(tmp_path, first) -> str:
    """A copy of the first study."""
    return sqlite_url(Path(shutil.copy(first[0], tmp_path / "study.sqlite")))


@pytest.fixture
def new(tmp_path) -> str:
    """A storage with nothing in it."""
    return sqlite_url(tmp_path / "new.sqlite")


def refuse(one):
    raise AssertionError(f"scored again: {one}")


def test_the_outcome(first):
    path, outcome, told = first
    assert setting_candidate(FULL) == outcome.points[0].candidate
    assert len(outcome.points) == len({one.candidate for one in outcome.points})
    assert all(one == score(one.candidate) for one in outcome.points)
    assert 0 < outcome.candidates == told <= 23
    assert outcome.candidates_per_second > 0
    assert outcome.found == 0
    assert set(outcome.front) <= set(outcome.points)
    assert outcome.storage == sqlite_url(path)


def test_a_second_call_finds_it_all_and_scores_nothing(first, url):
    _, outcome, _ = first
    second = run_study(study_plan(url), Scoring(setting_candidate, refuse), BUDGET)
    assert (second.points, second.front) == (outcome.points, outcome.front)
    assert second.found == second.trials == outcome.trials
    assert second.candidates == second.candidates_per_second == 0


def test_a_larger_budget_goes_on(first, url):
    second = run_study(study_plan(url), SCORING, StudyBudget(20, 4, 600))
    assert (second.found, second.trials) == (first[1].trials, first[1].trials + 2)


def test_a_study_is_swept_anew_by_other_measurements(first, url):
    """Better ones than those of a short budget: students that were passed over may be the best."""
    asked = []

    def slower(one):
        asked.append(one)
        found = score(one)
        return replace(found, cost=replace(found.cost, latency_ms=2 * found.cost.latency_ms))

    plan, scoring = study_plan(url, told_from="others"), Scoring(setting_candidate, slower)
    again = run_study(plan, scoring, BUDGET)
    assert len(asked) == again.candidates > 0
    assert again.found == first[1].trials
    more = run_study(plan, Scoring(setting_candidate, refuse), BUDGET)
    assert more.candidates == 0


def test_a_seed_gives_one_study_another_seed_another(first, new):
    assert run_study(study_plan(new), SCORING, BUDGET).points == first[1].points
    assert run_study(study_plan(new, name="b", seed=1), SCORING, BUDGET).points != first[1].points


def test_another_content_is_another_study_in_the_same_storage(first, url):
    for changes in ({"key": "other"}, {"dimensions": {**DIMENSIONS, "steps": (0, 1)}}):
        other = run_study(study_plan(url, **changes), SCORING, StudyBudget(0, 0, 600))
        assert (other.found, other.trials) == (0, 1)
        assert other.study_name != first[1].study_name
    assert run_study(study_plan(url), SCORING, BUDGET).found == first[1].trials


def test_no_time_leaves_the_known_students_and_a_later_call_has_its_own(new):
    outcome = run_study(study_plan(new), SCORING, StudyBudget(20, 2, 0.0))
    assert [one.candidate for one in outcome.points] == [setting_candidate(FULL)]
    assert outcome.trials == 1
    later = run_study(study_plan(new), SCORING, BUDGET)
    assert later.found == 1 < later.trials


def test_what_was_scored_is_stored_in_the_terms_that_a_dashboard_shows(new):
    """A repaired setting: the trial has what the sampler asked for and what was scored."""
    scoring = Scoring(setting_candidate, score, fit=lambda setting: {**setting, "mid": 1})
    outcome = run_study(study_plan(new), scoring, StudyBudget(0, 6, 60))
    assert {one.candidate.precision.split()[1] for one in outcome.points} == {"1"}
    study = optuna.load_study(study_name=outcome.study_name, storage=new)
    assert study.metric_names == ["latency_ms", "quality", "size_bytes"]
    for trial in study.trials:
        assert trial.params.keys() == DIMENSIONS.keys()
        record = trial.user_attrs["scored"]
        figures = [record[name] for name in study.metric_names]
        assert figures == trial.values
        assert record["candidate"]["precision"].split()[1] == "1"
    assert {trial.params["mid"] for trial in study.trials} == {0, 1}
    assert [trial.user_attrs["origin"] for trial in study.trials] == ["known"] + ["sampler"] * 6


def test_notes_of_a_sampler_are_kept(new):
    """Without its generations NSGA-II would begin anew in each call."""
    run_study(study_plan(new, sampler="nsga2"), SCORING, StudyBudget(0, 1, 600))
    outcome = run_study(study_plan(new, sampler="nsga2"), SCORING, StudyBudget(0, 3, 600))
    trials = optuna.load_study(study_name=outcome.study_name, storage=new).trials
    assert [len(trial.system_attrs) > 0 for trial in trials] == [False] + [True] * 3


def test_a_damaged_record_is_named(first, url):
    name, count = first[1].study_name, first[1].trials
    study = optuna.load_study(study_name=name, storage=url)
    study.add_trial(
        optuna.trial.create_trial(
            params=FULL,
            distributions=study.trials[0].distributions,
            values=(1.0, 1.0, 1.0),
            user_attrs={"scored": {"latency_ms": 1}},
        )
    )
    with pytest.raises(InputError, match=f"trial {count} of study `{name}` must follow its schema"):
        run_study(study_plan(url), SCORING, BUDGET)


def test_optuna_prints_nothing_and_its_verbosity_comes_back(new, capfd):
    before = optuna.logging.get_verbosity()
    run_study(study_plan(new), SCORING, StudyBudget(5, 1, 600))
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before == logging.INFO
