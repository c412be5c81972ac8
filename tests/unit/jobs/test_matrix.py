import shutil
from pathlib import Path
from typing import Any

import pytest

from edgekd.artifacts import ExportedPipeline, StudentCheckpoint
from edgekd.benchmark.suite import Suite
from edgekd.errors import GateError, InputError
from edgekd.export import stage
from edgekd.jobs import matrix as jobs_matrix
from edgekd.jobs.matrix import SuiteMatrix, folder_case, matrix, suite_targets
from edgekd.jobs.models import Model, given_models
from edgekd.jobs.plan import make_plan
from edgekd.progress import Silent
from edgekd.recipe import ExportSection, RowGeneration, load_recipe
from edgekd.resources import data_root
from edgekd.target import load_target

ROLES: dict[str, Any] = {"teacher": "teacher", "small": "student"}
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
    case = folder_case(Model("s", "student", tiny_teacher, "key"))
    assert (case.name, case.runtime) == ("s torch fp32", "torch")
    (tmp_path / "manifest.json").write_text('{"format": 7}')
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(InputError, match="manifest of format 1"):
        given_models({"s": tmp_path})


def test_a_run_of_distill_stands_for_its_student(tiny_teacher, tmp_path):
    student = tmp_path / "run" / "distill" / "student"
    student.parent.mkdir(parents=True)
    shutil.copytree(tiny_teacher, student)
    assert given_models({"s": tmp_path / "run"}) == {"s": student}
    with pytest.raises(InputError, match="local diffusers folder"):
        given_models({"s": tmp_path / "none"})


def suite_matrix(run: Path, **asked: Any) -> SuiteMatrix:
    suite = Suite(name="s", **asked)
    return SuiteMatrix(suite, suite_targets(suite), ExportSection(), ["a cat"], run, Silent())


def test_rows_are_models_in_all_precisions_in_all_generations(tiny_teacher, tmp_path, monkeypatch):
    """Without making them: the export of one precision fails its gate."""
    asked = []

    def export_each(path, plan, out, key, progress):
        asked.append((out.relative_to(tmp_path), plan.section.precisions))
        for precision in plan.section.precisions:
            failed = GateError("parity must hold", "1 dB") if precision == "int8" else None
            yield precision, failed or ExportedPipeline(out / precision, key, "r", precision)

    monkeypatch.setattr(stage, "export_each", export_each)
    models = [Model(name, role, tiny_teacher, name) for name, role in ROLES.items()]
    targets = {"onnx": ["fp32", "int8"], "coreml": ["fp16"]}
    built = suite_matrix(tmp_path, targets=targets, generations={"few": {"steps": 3}})
    rows = built.cases(models)
    cells = ["torch fp32", "onnx fp32", "onnx int8", "coreml fp16"]
    names = [f"{model} {cell}{few}" for model in ROLES for cell in cells for few in ("", " few")]
    assert [row.name for row in rows] == names
    assert built.deployed == ("onnx", "fp32")
    assert asked[:2] == [
        (Path("export/teacher/onnx"), ["fp32", "int8"]),
        (Path("export/teacher/coreml"), ["fp16"]),
    ]
    for row in rows:
        assert row.role == ROLES[row.model]
        assert row.generation is not None
        assert row.generation.steps == (3 if row.name.endswith("few") else 20)
        assert bool(row.failed) == (row.precision == "int8")
        assert bool(row.evaluated) == bool(
            row.target and jobs_matrix.not_executed_here(row.runtime)
        )
        assert row.target == (None if row.runtime == "torch" else row.runtime)


def test_targets_of_a_suite_are_known_before_anything_is_exported(tmp_path):
    found = suite_targets(Suite(name="s", targets={"openvino": [], "onnx": ["int8"]}))
    assert [(target.name, precisions) for target, precisions in found] == [
        ("openvino", ["fp32", "fp16", "int8"]),
        ("onnx", ["int8"]),
    ]
    assert suite_matrix(tmp_path, targets={"onnx": ["int8"]}).deployed == ("onnx", "int8")
    assert suite_matrix(tmp_path).deployed is None
    for targets, message in (({"none": []}, "none"), ({"onnx": ["fp8"]}, "are fp32, int8")):
        with pytest.raises(InputError, match=message):
            suite_targets(Suite(name="s", targets=targets))
