"""What a recipe may ask of a search, and what it tells."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from edgekd.errors import InputError
from edgekd.jobs.distill import on_card
from edgekd.jobs.plan import make_plan, with_student
from edgekd.jobs.search_cost import CostMeter, configs_of
from edgekd.jobs.search_lines import lines
from edgekd.jobs.search_plan import plan_search
from edgekd.recipe import load_recipe
from edgekd.resources import data_root
from edgekd.search.candidate import Candidate, with_given_student
from edgekd.search.graphs import Graph
from edgekd.search.measurements import Measurement
from edgekd.search.result import SearchResult
from edgekd.student.resolve import preset
from edgekd.target import load_target


@pytest.fixture
def planned(tiny_teacher, tmp_path):
    """A plan of the default recipe with some fields set."""

    def make(*assignments: str, target: str = "onnx") -> Any:
        path = data_root() / "configs" / "starter.yaml"
        recipe = load_recipe(path, [f"teacher.path={tiny_teacher}", *assignments])
        return make_plan(recipe, load_target(target), tmp_path / "run")

    return make


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        (["search.latency_ms=40", "search.speedup=20"], "one of `latency_ms` and `speedup`"),
        (["search.precisions=[int4]"], "among the precisions of target `onnx`"),
        (["search.speedup=null", "search.short_steps=10"], "must come with a goal of latency"),
        (["search.precisions=[int8]", "export.precisions=[fp32]"], "among those that are exported"),
        (["search.storage=nowhere"], "must be a database URL of SQLAlchemy"),
        (["search.steps=[0]"], "search.steps"),
        (["search.widths=[1.5]"], "search.widths"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(planned, assignments, said):
    with pytest.raises(InputError, match=said):
        plan_search(planned(*assignments))


def test_steps_and_decoders_are_searched_where_they_are_taught(planned):
    dimensions = plan_search(planned()).space.dimensions
    assert set(dimensions["steps"]) == {1, 2, 4}
    assert 0.5 in dimensions["decoder_width"]
    plain = plan_search(planned("distill.phases=[kd]"))
    assert plain.space.dimensions["steps"] == (25,)  # the suite's
    assert plain.space.dimensions["decoder_width"] == (1.0,)
    assert plain.guided
    assert not plan_search(planned()).guided
    assert plan_search(planned("distill.guidance=keep")).guided


@pytest.fixture
def tables(tmp_path):
    """The assignment that names quality tables, written with some rows changed."""

    def write(**changed: Any) -> str:
        values = {
            "measured": "phones", "steps": {1: 0.5, 50: 1}, "decoder_width": {0.25: 0.9, 1: 1},
            "precision": {"fp32": 1, "int8": 1}, "slope": 1, "capacity": 0, **changed,
        }  # fmt: skip
        (tmp_path / "tables.yaml").write_text(yaml.safe_dump(values))
        return f"search.quality_tables={tmp_path / 'tables.yaml'}"

    return write


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
    cache: Any = SimpleNamespace(key="data")
    assert first.key(cache) == same.key(cache) != other.key(cache)


def test_another_runtime_stands_in_for_one_that_is_not_here(planned):
    place = plan_search(planned(target="coreml")).place
    assert place.runtime == "onnx"
    assert place.stand_in_for == "coreml"
    own = plan_search(planned("search.precisions=[fp32,int8]")).place
    assert own.runtimes == {"fp32": ("onnx", "fp32"), "int8": ("onnx", "int8")}
    assert own.stand_in_for is None


def _candidate(plan: Any, **changed: Any) -> Candidate:
    from edgekd.reading import read_json

    config = read_json(plan.teacher.path / "unet" / "config.json")
    values = {"decoder_width": 0.5, "steps": 4, "precision": "int8", **changed}
    return Candidate(arch=preset("bk-sdm-small", config), **values)


def test_a_found_student_decides_what_is_taught_and_deployed(planned):
    plan = planned()
    candidate = _candidate(plan, decoder_width=0.25)
    found = with_student(plan, candidate, "found")
    assert found.arch == candidate.arch
    assert found.phases == ("kd", "few_step", "decoder")
    assert found.recipe.distill.few_step.student_steps == 4
    assert found.recipe.distill.decoder.width == 0.25
    assert found.target.deploy == "int8"
    own_decoder = with_student(plan, _candidate(plan, decoder_width=1.0), "found")
    assert own_decoder.phases == ("kd", "few_step")


def test_pruned_text_encoders_cost_less_than_the_teachers(planned):
    plan = planned("distill.phases=[few_step, text_encoder]", "distill.text_encoder.depth=0.25")
    configs = configs_of(plan, guided=False)
    (graph,) = configs.text_graphs()
    assert graph.config["num_hidden_layers"] == 1
    (plain,) = configs_of(planned(), guided=False).text_graphs()
    assert plain.config["num_hidden_layers"] == 2
    # The teacher is timed with its own, and phases stay in their order.
    seen: list[Graph] = []
    measured = Measurement(latency_ms=1, samples_ms=(1,), cv=0, outliers=0, file_bytes=1)

    def measure(graphs: Sequence[Graph]) -> list[Measurement]:
        seen.extend(graphs)
        return [measured for _ in graphs]

    CostMeter(plan_search(plan).place, {"fp32": measure}).teacher(
        configs, _candidate(plan, precision="fp32"), guided=True
    )
    assert seen[0] == plain
    found = with_student(plan, _candidate(plan), "found")
    assert found.phases == ("few_step", "decoder", "text_encoder")


def test_a_point_of_a_front_is_the_same_student(planned):
    plan = planned()
    candidate = _candidate(plan)
    section = plan.recipe.student.model_copy(update={"candidate": candidate.model_dump()})
    given = with_given_student(plan.recipe.model_copy(update={"student": section}))
    assert given == with_student(plan, candidate, "").recipe


def _result(candidate: Candidate, **searched_on: Any) -> SearchResult:
    point = {
        **candidate.model_dump(), "latency_ms": 45.2, "measured": True, "quality": 0.91,
        "bytes": 10_000_000, "peak_bytes": 10, "speedup": 20.0, "label": "4 steps",
        "file": "front/0.json",
    }  # fmt: skip
    on = {"runtime": "onnx", "precision": ["fp32"], "threads": 1, "device": "a cpu"}
    return SearchResult.model_validate(
        {
            "predictor": {"held_out": 8, "measurements": 40, "median_error": 0.02,
                          "p90_error": 0.05, "within_10": 1.0, "spearman": 0.99, "form": "linear"},
            "searched_on": {**on, **searched_on},
            "teacher": {"latency_ms": 905.0, "bytes": 20},
            "candidates_per_second": 3000.0, "candidates": 100, "trials": 10, "study": "s",
            "storage": "sqlite", "front": [point], "chosen": {"index": 0, "reason": "the best"},
        }
    )  # fmt: skip


def test_every_text_says_where_it_was_searched(planned):
    found = _result(_candidate(planned()), stand_in_for="coreml")
    assert "searched on onnx, not on coreml" in on_card(found)
    told = "\n".join(lines(found, Path("run")))
    assert "searched on onnx, not on coreml; teacher: 905 ms" in told
    assert ">*    45.2 ms    20.0x    0.910  4 steps (front/0.json)" in told
    assert "on 8 unseen U-Nets off by 2.0% (median), 100% within 10 %" in told
