import shutil

import pytest

from edgekd.artifacts import ExportedPipeline, StudentCheckpoint
from edgekd.errors import InputError
from edgekd.jobs.matrix import matrix, student_case
from edgekd.jobs.plan import make_plan
from edgekd.recipe import RowGeneration, load_recipe
from edgekd.resources import data_root
from edgekd.target import load_target

CARD = "---\ninference:\n  parameters: {num_inference_steps: 4, guidance_scale: 1}\n---\n"


def test_exports_draw_as_the_model_they_were_made_from(tiny_teacher, tmp_path):
    settings = [f"teacher.path={tiny_teacher}"]
    recipe = load_recipe(data_root() / "configs" / "starter.yaml", settings)
    plan = make_plan(recipe, load_target("onnx"), tmp_path)
    few = shutil.copytree(tiny_teacher, tmp_path / "student")
    (few / "README.md").write_text(CARD)
    exports = {
        role: {"fp32": ExportedPipeline(tmp_path / role, "key", "onnx", "fp32")}
        for role in ("teacher", "student")
    }
    rows = matrix(plan, StudentCheckpoint(few, "key", tmp_path / "metrics.jsonl"), exports)
    suite = plan.suite.generation
    as_suite = RowGeneration("DDIMScheduler", suite.steps, suite.guidance_scale)
    as_card = RowGeneration("DDIMScheduler", 4, 1.0)
    assert [(row.name, row.generation, row.source) for row in rows] == [
        ("teacher torch fp32", as_suite, None),
        ("teacher onnx fp32", as_suite, plan.teacher.path),
        ("student torch fp32", as_card, None),
        ("student onnx fp32", as_card, few),
    ]


def test_a_students_folder_must_be_diffusers_or_an_export(tiny_teacher, tmp_path):
    assert student_case("s", tiny_teacher).runtime == "torch"
    (tmp_path / "manifest.json").write_text('{"format": 7}')
    with pytest.raises(InputError, match="manifest of format 1"):
        student_case("s", tmp_path)
