"""What is refused before a search, and what its keys hold for."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekd.errors import InputError
from edgekd.jobs.search_plan import plan_search

CACHE: Any = SimpleNamespace(key="data")


@pytest.mark.parametrize(
    ("changed", "asked", "said"),
    [
        ({"steps": {2: 0.9, 8: 1}}, [], "`search.steps` must be from 2 to 8, .* but got 1"),
        (
            {"steps": {1: 0.9, 8: 1}},
            ["distill.phases=[kd]"],
            "`generation.steps` must be from 1 to 8, .* but got 25",
        ),
        (
            {"decoder_width": {0.5: 0.9, 1: 1}},
            [],
            "`search.decoder_widths` must be from 0.5 to 1, .* but got 0",
        ),
        (
            {"precision": {"fp32": 1, "int4": 0.9}},
            ["search.precisions=[fp32,int8]"],
            r"`search.precisions` must be among .* cover \(fp32, int4\), but got 'int8'",
        ),
        ({"slope": -1}, [], "tables.yaml` must follow its schema"),
    ],
)
def test_what_the_quality_tables_do_not_cover_is_refused_before_any_work(
    planned, tables, changed, asked, said
):
    plan = planned(tables(**changed), *asked)
    with pytest.raises(InputError, match=said):
        plan_search(plan)


def test_short_distillations_that_cannot_be_are_refused_before_any_work(
    planned, tables, monkeypatch
):
    """The other processes wait for the search's result: they would not train along."""
    plan = planned(tables(), "search.short_steps=40")
    plan_search(plan)
    with pytest.raises(InputError, match=r"with a phase `kd` or `few_step`, but got \['decoder'\]"):
        plan_search(planned(tables(), "search.short_steps=40", "distill.phases=[decoder]"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    plan_search(plan, measure_only=True)
    with pytest.raises(InputError, match=r"`search\.short_steps` must be 0 in a launch .* 40 in 2"):
        plan_search(plan)


def test_what_is_only_measured_needs_no_quality(planned, tables):
    plan = planned(tables(steps={2: 0.9, 8: 1}))
    assert plan_search(plan, measure_only=True).space.dimensions["steps"] == (4, 2, 1)


def test_quality_tables_count_by_what_they_say(planned, tables, tmp_path):
    assert "starter" in plan_search(planned()).tables.measured
    first = plan_search(planned(tables()))
    assert first.tables.of_steps(1) == 0.5
    moved = Path(tmp_path / "tables.yaml").rename(tmp_path / "moved.yaml")
    same = plan_search(planned(f"search.quality_tables={moved}"))
    other = plan_search(planned(tables(steps={1: 0.6, 50: 1})))
    assert first.key(CACHE) == same.key(CACHE) != other.key(CACHE)
    assert first.study_key(CACHE) == same.study_key(CACHE) != other.study_key(CACHE)


@pytest.mark.parametrize(
    "assignment",
    [
        "search.speedup=3", "search.margin=0", "search.min_quality=0.5", "search.seconds=9",
        "search.whole_unets=5", "search.candidates=9", "search.trials=9", "search.sampler=gp",
        "search.finalists=9", "search.short_steps=9", "distill.steps=9",
    ],
)  # fmt: skip
def test_with_another_goal_or_budget_the_same_study_goes_on(planned, assignment):
    first, other = plan_search(planned()), plan_search(planned(assignment))
    assert first.study_key(CACHE) == other.study_key(CACHE)
    assert first.key(CACHE) != other.key(CACHE)


@pytest.mark.parametrize(
    "assignment",
    [
        "search.seed=1", "search.calibration_samples=9", "search.threads=2",
        "search.precisions=[int8]", "distill.guidance=keep", "distill.decoder.layers=1",
        "distill.phases=[few_step, decoder, text_encoder]",
    ],
)  # fmt: skip
def test_where_figures_mean_something_else_it_is_another_study(planned, assignment):
    first, other = plan_search(planned()), plan_search(planned(assignment))
    assert first.study_key(CACHE) != other.study_key(CACHE)
