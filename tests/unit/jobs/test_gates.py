from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import GateError, InputError
from edgekd.jobs.gates import check_gates, check_rows, gates
from edgekd.metrics.registry import load_metrics
from edgekd.recipe import Recipe
from edgekd.recipe_distill import DistillSection
from edgekd.report.schema import Headline, HeadlineRows
from edgekd.target import Target, load_target

METRICS = [metric.descriptor for metric in load_metrics()]
HEADLINE = Headline(
    teacher={},
    student={"latency_ms": 50.0, "size_bytes": 9e6, "score": 20.0, "peak_bytes": None},
    ratios={"fd": 1.2, "score": 0.9},
    rows=HeadlineRows(teacher="t", student="s"),
)


def check(floor: dict[str, Any], budgets: dict[str, Any]) -> None:
    recipe = Recipe(name="r", distill=DistillSection(steps=1), quality_floor=floor)
    values = {**load_target("onnx").model_dump(), "budgets": budgets}
    made = gates(recipe, Target.model_validate(values), METRICS)
    check_gates(made, HEADLINE, Path("report"))


def test_what_is_within_its_bounds_passes():
    check({"max_fd_ratio": 1.2, "min_score_ratio": 0.9, "max_kid_ratio": None}, {"latency_ms": 50})


@pytest.mark.parametrize(
    ("floor", "budgets", "said"),
    [
        ({"max_fd_ratio": 1.1}, {}, r"`quality_floor.max_fd_ratio`: <= 1.1 must hold, but got 1.2"),
        ({"min_score_ratio": 1.0}, {}, r"`quality_floor.min_score_ratio`: >= 1.0 .* got 0.9"),
        ({}, {"latency_ms": 49}, r"`budgets.latency_ms`: <= 49.0 must hold, but got 50"),
        ({}, {"size_bytes": 8_999_999}, r"<= 8999999.0 must hold"),
        ({}, {"score": 21}, r"`budgets.score`: >= 21.0 must hold, but got 20"),
        ({}, {"peak_bytes": 1}, "no measurement"),
        ({"max_kid_ratio": 1}, {}, "no measurement"),
    ],
)
def test_what_is_not_fails(floor, budgets, said):
    with pytest.raises(GateError, match=said):
        check(floor, budgets)


@pytest.mark.parametrize(
    ("floor", "budgets"),
    [({"min_fd_ratio": 1}, {}), ({"max_fid_ratio": 1}, {}), ({}, {"latency": 1})],
)
def test_a_bound_on_what_is_no_metric_is_refused(floor, budgets):
    with pytest.raises(InputError, match=r"takes .*fd.* unknown key"):
        check(floor, budgets)


def test_failed_rows_are_told_with_their_reasons():
    check_rows({}, Path("report"))
    with pytest.raises(GateError, match="`a`: parity; `b`: killed") as error:
        check_rows({"a": "parity", "b": "killed"}, Path("report"))
    assert error.value.exit_code == 3
