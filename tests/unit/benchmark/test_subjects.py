import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edgekd.benchmark.subjects import (
    Subject,
    check_subjects,
    component_parameters,
    facts,
    open_pipeline,
    stored_dtype,
)
from edgekd.errors import InputError


@pytest.fixture
def teacher(tiny_teacher: Path) -> Subject:
    return Subject("teacher", "teacher", "torch", "fp32", tiny_teacher)


def test_parameters_are_those_of_the_loaded_models(teacher: Subject) -> None:
    pipeline = open_pipeline(teacher, threads=1)
    loaded = {
        name: sum(p.numel() for p in getattr(pipeline, name).parameters())
        for name in ("unet", "vae", "text_encoder")
    }
    assert component_parameters(teacher.path) == loaded


def test_the_type_that_weights_are_stored_in(
    teacher: Subject, starter_teacher: Path, tmp_path: Path
) -> None:
    assert stored_dtype(teacher.path) == facts(teacher)["stored_dtype"] == "fp32"
    assert stored_dtype(starter_teacher) == "fp16"
    mixed = shutil.copytree(teacher.path, tmp_path / "mixed")
    shutil.rmtree(mixed / "vae")
    shutil.copytree(starter_teacher / "vae", mixed / "vae")
    assert stored_dtype(mixed) == "mixed"
    assert stored_dtype(tmp_path / "mixed" / "scheduler") is None


def test_parameters_of_both_text_encoders_count(tiny_sdxl_teacher: Path) -> None:
    assert {"text_encoder", "text_encoder_2"} <= set(component_parameters(tiny_sdxl_teacher))


def test_an_export_has_its_sources_parameters_and_its_manifests_parity(
    teacher: Subject, tmp_path: Path
) -> None:
    parity = {"snr_db": 90.0, "floor_db": 80.0}
    manifest = {"components": {"unet": {"parity": parity}, "tokenizer": {}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.onnx").write_bytes(b"x" * 1000)
    known = facts(Subject("s", "student", "onnx", "fp32", tmp_path, source=teacher.path))
    assert known["parameters"] == sum(component_parameters(teacher.path).values())
    assert known["parity"] == {"unet": parity}
    assert known["component_bytes"] == {"unet": 1000}
    assert known["stored_dtype"] is None


def test_key_follows_content_not_bookkeeping(teacher: Subject, tmp_path: Path) -> None:
    copy = replace(teacher, path=tmp_path / "copy", name="other")
    shutil.copytree(teacher.path, copy.path)
    (copy.path / "manifest.json").write_text('{"seconds": 3}')
    assert copy.key() == teacher.key()
    (copy.path / "scheduler" / "scheduler_config.json").write_text("{}")
    assert copy.key() != teacher.key()
    assert replace(teacher, precision="int8").key() != teacher.key()


def test_a_matrix_that_could_not_be_read_is_refused(teacher: Subject, tmp_path: Path) -> None:
    student = replace(teacher, name="student", role="student")
    check_subjects([teacher, student])
    cases = {
        "names of benchmark subjects must differ": [teacher, replace(student, name="teacher")],
        "must have a teacher row that runs here, but got student": [student],
        "must have a teacher row": [replace(teacher, not_executed="no device"), student],
        "no subjects": [],
        "subject `student` must be a pipeline folder": [teacher, replace(student, path=tmp_path)],
    }
    for message, subjects in cases.items():
        with pytest.raises(InputError, match=message):
            check_subjects(subjects)
