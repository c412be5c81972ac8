"""What a recipe may ask of a search, and what it tells."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fixtures.graph_costs import LawfulDevice

from edgekd.errors import InputError
from edgekd.jobs import search_cost
from edgekd.jobs.cards import write_student_card
from edgekd.jobs.plan import with_student
from edgekd.jobs.search import _facts
from edgekd.jobs.search_cost import CostMeter, PictureCosts
from edgekd.jobs.search_lines import lines
from edgekd.jobs.search_plan import plan_search
from edgekd.jobs.search_shapes import configs_of
from edgekd.model_card import CARD_FILE
from edgekd.progress import Silent
from edgekd.recipe import StudentSection
from edgekd.search.campaign import MeasureBudget
from edgekd.search.candidate import Candidate, with_given_student
from edgekd.search.graphs import Graph
from edgekd.search.latency import PredictorReport
from edgekd.search.measurements import Measurement
from edgekd.search.result import SearchResult, write_result
from edgekd.search.study import StudyOutcome
from edgekd.student.resolve import preset


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
        (["distill.decoder.kind=tiny"], "`distill.decoder.kind` must be kl where a search"),
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


def test_another_runtime_stands_in_for_one_that_is_not_here(planned):
    place = plan_search(planned(target="coreml")).place
    assert place.runtime == "onnx"
    assert place.stand_in_for == "coreml"
    assert place.bits_per_weight == {"palette6": 6}
    own = plan_search(planned("search.precisions=[fp32,int8]")).place
    assert own.runtimes == {"fp32": ("onnx", "fp32"), "int8": ("onnx", "int8")}
    assert own.stand_in_for is None
    assert own.bits_per_weight == {}


def test_sizes_are_the_targets_where_another_runtime_stands_in(planned, monkeypatch):
    device = LawfulDevice(noise=0)
    monkeypatch.setattr(search_cost, "open_measure", lambda *_: contextlib.nullcontext(device))
    search = plan_search(planned("search.precisions=[fp16,palette6]", target="coreml"))
    configs, full = configs_of(search.plan, guided=False), search.space.full()

    with search_cost.open_meter(search.place) as meter:
        costs = meter.fit(search.space, configs, MeasureBudget(60, 4), 0, Silent())

        def figures(precision: str) -> list[Any]:
            one = search.space.candidate({**full, "precision": precision})
            told, measured = costs.predict(one), meter.whole(costs, one)
            return [told, measured, meter.teacher(configs, one, guided=False)]

        half, six = figures("fp16"), figures("palette6")
    weighed = sum(
        one.file_bytes
        for one in device([
            *configs.text_graphs(), configs.decoder_graph(1.0),
            configs.unet_graph(search.space.candidate(full)),
        ])
    )  # fmt: skip
    assert [one.size_bytes for one in half] == pytest.approx([weighed / 2] * 3, rel=1e-3)
    assert [one.size_bytes for one in six] == pytest.approx([weighed * 6 / 32] * 3, rel=1e-3)
    assert [one.latency_ms for one in half] == [one.latency_ms for one in six]


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


def test_a_candidate_has_no_tiny_decoder(planned):
    plan = planned("distill.decoder.kind=tiny", "student.preset=bk-sdm-small")
    section = StudentSection(candidate=_candidate(plan).model_dump(mode="json"))
    with pytest.raises(InputError, match="must be kl where a search"):
        with_given_student(plan.recipe.model_copy(update={"student": section}))


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


def test_the_card_of_a_fronts_point_says_where_it_was_searched(planned, tmp_path):
    found = _result(_candidate(planned()), stand_in_for="coreml")
    write_result(tmp_path, found)
    point = json.loads((tmp_path / "front" / "0.json").read_text())
    plan = planned(f"student.candidate={json.dumps(point)}")
    write_student_card(plan, tmp_path, None)
    assert found.on_card(0) in (tmp_path / CARD_FILE).read_text()
    # Files of before say nothing of it.
    del point["found"]
    older = planned(f"student.candidate={json.dumps(point)}")
    assert (older.found, older.recipe) == ("", plan.recipe)


def _report(**changes: Any) -> PredictorReport:
    values = {
        "held_out": 8, "measurements": 40, "median_error": 0.02, "p90_error": 0.05,
        "within_10": 1.0, "spearman": 0.99, "form": "linear", **changes,
    }  # fmt: skip
    return PredictorReport.model_validate(values)


_UNKNOWN = {"held_out": 0, "within_10": None, "p90_error": None, "median_error": None}


@pytest.mark.parametrize(
    ("fp32", "int8", "worst"),
    [
        ({"within_10": 0.9}, {"p90_error": 0.5}, "fp32"),
        ({}, {"p90_error": 0.06, "median_error": 0.01}, "int8"),
        ({"within_10": 0.1}, _UNKNOWN, "int8"),
        ({}, {}, "fp32"),
    ],
)
def test_of_several_precisions_the_worst_predicted_one_is_told(planned, tables, fp32, int8, worst):
    search = plan_search(planned("search.precisions=[fp32,int8]", tables()))
    reports = {"fp32": _report(**fp32, warnings=["few"]), "int8": _report(**int8, warnings=["old"])}
    models: Any = {name: SimpleNamespace(report=one) for name, one in reports.items()}
    outcome = StudyOutcome((), 9, 0, 90, 900.0, "study", "sqlite")
    proxy: Any = SimpleNamespace(measured="phones")
    told = _facts(search, PictureCosts(models), proxy, outcome)
    both = ("fp32: few", "int8: old")
    assert told.predictor == reports[worst].model_copy(update={"warnings": both})
    quality, latency = told.notes
    assert quality.startswith("Quality by steps, decoder and precision was measured on phones (")
    assert "tables.yaml" in quality
    assert f"predicted worst in {worst}" in latency
    alone = PictureCosts({"int8": models["int8"]})
    assert _facts(search, alone, proxy, outcome).predictor == reports["int8"]


def test_every_text_says_where_it_was_searched(planned):
    found = _result(_candidate(planned()), stand_in_for="coreml")
    assert found.on_card(0) == "Found by a search, searched on onnx, not on coreml: the best."
    told = "\n".join(lines(found, Path("run")))
    assert "searched on onnx, not on coreml; teacher: 905 ms" in told
    assert ">*    45.2 ms    20.0x    0.910  4 steps (front/0.json)" in told
    assert "on 8 unseen U-Nets off by 2.0% (median), 100% within 10 %" in told
