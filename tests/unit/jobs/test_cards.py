from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from edgekd import __version__
from edgekd.benchmark.cases import Case
from edgekd.file_record import finish
from edgekd.jobs.cards import (
    mark_weights,
    measure_cards,
    origins,
    recipe_hash,
    write_student_card,
)
from edgekd.jobs.plan import Plan, make_plan
from edgekd.metrics.metric import Descriptor, Figure
from edgekd.model_card import CARD_FILE
from edgekd.recipe import load_recipe
from edgekd.resources import data_root
from edgekd.student.build import DrawingPlan
from edgekd.target import load_target

FEW = DrawingPlan(scheduler=None, steps=4, guidance_scale=1.0)


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Plan:
    recipe = load_recipe(data_root() / "configs" / "starter.yaml", ["student.preset=bk-sdm-tiny"])
    return make_plan(recipe, load_target("onnx"), tmp_path_factory.mktemp("run"))


def test_a_recipes_hash_is_of_what_decides_the_student(plan):
    recipe, whole = plan.recipe, recipe_hash(plan.recipe)

    def changed(section: str, **fields: Any) -> str:
        part = getattr(recipe, section).model_copy(update=fields)
        return recipe_hash(recipe.model_copy(update={section: part}))

    assert changed("distill", seed=recipe.distill.seed + 1) != whole
    assert changed("student", preset="bk-sdm-base") != whole
    assert changed("distill", checkpoint_every=7) == whole
    assert changed("data", workers=7) == whole
    assert changed("benchmark", suite="smoke") == whole


def test_a_students_card_says_what_it_is_made_of_and_how_it_is_drawn(plan, tmp_path):
    write_student_card(replace(plan, found="Found by a search."), tmp_path, FEW)
    card = ModelCard.load(tmp_path / CARD_FILE)
    assert card.data.base_model == "edgekd-starter-teacher"
    assert card.data.datasets == ["edgekd-starter-emoji"]
    assert card.data.license == "apache-2.0"
    assert card.data.inference == {"parameters": {"num_inference_steps": 4, "guidance_scale": 1.0}}
    for text in (recipe_hash(plan.recipe), plan.teacher.key, __version__, "Found by a search."):
        assert text in card.text
    assert "pipeline(prompt, num_inference_steps=4, guidance_scale=1)" in card.text


def test_a_student_that_draws_as_its_teacher_says_nothing_of_it(plan, tmp_path):
    write_student_card(plan, tmp_path, None)
    card = ModelCard.load(tmp_path / CARD_FILE)
    assert "inference" not in card.data.to_dict()
    assert "pipeline(prompt)" in card.text


def test_weights_say_what_they_were_made_from_and_stay_the_same(plan, tmp_path):
    tensors = {"a": np.arange(5, dtype=np.float32), "b": np.ones((2, 3), np.float16)}
    file = tmp_path / "weights.safetensors"
    save_file(tensors, file, {"format": "pt"})
    mark_weights(plan, [tmp_path])
    for name, value in load_file(file).items():
        np.testing.assert_array_equal(value, tensors[name])
        assert value.dtype == tensors[name].dtype
    with safe_open(file, "np") as opened:
        assert opened.metadata() == {
            "format": "pt",
            "edgekd.version": __version__,
            "edgekd.recipe": origins(plan)["recipe"],
            "edgekd.teacher": plan.teacher.key,
        }
    assert int.from_bytes(file.read_bytes()[:8], "little") % 8 == 0


def test_each_card_has_the_figures_of_its_own_row(plan, tmp_path):
    run = tmp_path / "run"
    folders = {name: run / name for name in ("student", "export", "bare")}
    folders["given"] = tmp_path / "given"  # somebody else's
    for folder in folders.values():
        folder.mkdir(parents=True)
    for name in ("student", "export", "given"):
        write_student_card(plan, folders[name], None)
        finish(folders[name], name)
    descriptors = [
        Descriptor(name=name, label=name, title=name, direction="lower", source="pictures")
        for name in ("fd", "kid")
    ]
    values = {"teacher": 1.0, "student": 2.0, "export": 3.0, "bare": 4.0, "given": 5.0, "fast": 6.0}
    report = SimpleNamespace(
        descriptors=descriptors,
        data=SimpleNamespace(key="d", prompts=8),
        rows=[row(name, {"fd": Figure(value=value)}) for name, value in values.items()],
    )
    cases = [Case(name, "student", "torch", "fp32", path) for name, path in folders.items()]
    cases.append(Case("teacher", "teacher", "torch", "fp32", plan.teacher.path))
    cases.append(replace(cases[0], name="fast"))  # the student once more, in another way
    others = (plan.teacher.path, folders["given"])
    own = [(folder / CARD_FILE).read_text() for folder in others]
    measure_cards(replace(plan, run=run), cases, report)  # type: ignore[arg-type]
    for name in ("student", "export"):
        (result,) = ModelCard.load(folders[name] / CARD_FILE).data.eval_results
        assert (result.metric_type, result.metric_value) == ("fd", values[name])
        assert result.dataset_name == "edgekd-starter-emoji, 8 held-out captions"
    assert not (folders["bare"] / CARD_FILE).exists()
    assert [(folder / CARD_FILE).read_text() for folder in others] == own


def test_times_of_a_busy_machine_are_on_no_card(plan, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    write_student_card(plan, run, None)
    finish(run, "student")
    descriptors = [
        Descriptor(name=name, label=name, title=name, direction="lower", source=source)
        for name, source in (("fd", "pictures"), ("latency_ms", "latency"))
    ]
    busy = row("student", {name: Figure(value=1.0) for name in ("fd", "latency_ms")})
    busy.busy = True
    report = SimpleNamespace(
        descriptors=descriptors, data=SimpleNamespace(key="d", prompts=8), rows=[busy]
    )
    case = Case("student", "student", "torch", "fp32", run)
    measure_cards(replace(plan, run=run), [case], report)  # type: ignore[arg-type]
    (result,) = ModelCard.load(run / CARD_FILE).data.eval_results
    assert result.metric_type == "fd"


def row(name: str, figures: dict[str, Figure]) -> Any:
    def value(metric: str) -> float | None:
        return figures[metric].value if metric in figures else None

    return SimpleNamespace(name=name, value=value, busy=False)
