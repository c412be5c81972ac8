"""Building and saving students: a full one is the teacher, and a folder is a stock pipeline."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.artifacts import read_json, write_json
from edgekd.diffusion.load import load_model
from edgekd.errors import InputError
from edgekd.libraries import diffusers
from edgekd.student.arch import StageArch, StudentArch
from edgekd.student.build import build_student, save_student
from edgekd.student.resolve import full, preset

TEACHERS = ["tiny_teacher", "tiny_sd2_teacher", "tiny_sdxl_teacher", "starter_teacher"]


def _load(path: Path) -> Any:
    return load_model(path, "unet")


@pytest.mark.parametrize("fixture", TEACHERS)
def test_a_full_student_is_the_teacher_bit_for_bit(
    fixture: str, request: pytest.FixtureRequest, predict: Callable[[Any], Tensor]
) -> None:
    teacher = _load(request.getfixturevalue(fixture))
    student = build_student(teacher, full(teacher.config))
    expected, state = teacher.state_dict(), student.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    # Weights that want gradients are multiplied in another order, even without a tape.
    student.requires_grad_(False)
    assert torch.equal(predict(student), predict(teacher))
    assert {k: v for k, v in student.config.items() if not k.startswith("_")} == {
        k: v for k, v in teacher.config.items() if not k.startswith("_")
    }


def test_students_share_no_memory_with_the_teacher_and_train(tiny_teacher: Path) -> None:
    teacher = _load(tiny_teacher)
    teacher.requires_grad_(False)
    student = build_student(teacher, preset("bk-sdm-small", teacher.config))
    assert all(p.requires_grad for p in student.parameters())
    assert not student.training
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    with torch.no_grad():
        for p in student.parameters():
            p.zero_()
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_dtype_is_the_teachers_and_no_random_number_is_drawn(tiny_teacher: Path) -> None:
    teacher = _load(tiny_teacher).half()
    stages = (*(StageArch(),) * 2, StageArch(width=48), StageArch(width=32))
    state = torch.random.get_rng_state()
    student = build_student(teacher, StudentArch(stages=stages))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {value.dtype for value in student.state_dict().values()} == {torch.float16}


@pytest.fixture
def saved(tiny_teacher: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A teacher with a licence and pickled leftovers, and a student saved from it."""
    teacher = shutil.copytree(tiny_teacher, tmp_path / "teacher")
    (teacher / "LICENSE.md").write_text("terms")
    (teacher / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    (teacher / "whole.ckpt").write_bytes(b"pickle")
    unet = _load(teacher)
    student = build_student(unet, preset("bk-sdm-tiny", unet.config))
    save_student(teacher, student, tmp_path / "out" / "student")
    return teacher, tmp_path / "out" / "student"


STOCK = """
import importlib.util, sys
# This machine may have a torchvision that does not fit its torch; the pipeline needs none.
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "torchvision" else find_spec(name, *a)
import json, torch
from diffusers import StableDiffusionPipeline
pipeline, info = StableDiffusionPipeline.from_pretrained(sys.argv[1], safety_checker=None), {}
pipeline.set_progress_bar_config(disable=True)
images = pipeline(
    "a cat", num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0)
).images
assert not any(name.split(".")[0] == "edgekd" for name in sys.modules)
print(json.dumps({
    "shape": images.shape,
    "finite": bool((images == images).all()),
    "parameters": sum(p.numel() for p in pipeline.unet.parameters()),
    "sum": float(sum(p.double().sum() for p in pipeline.unet.parameters())),
}))
"""


def test_a_saved_student_runs_in_stock_diffusers_without_edgekd(saved: tuple[Path, Path]) -> None:
    student = saved[1]
    done = subprocess.run(
        [sys.executable, "-c", STOCK, str(student)],
        capture_output=True,
        text=True,
        check=False,
        cwd=student,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    state = _load(student).state_dict()
    assert facts["shape"] == [1, 32, 32, 3]
    assert facts["finite"]
    assert facts["parameters"] == sum(value.numel() for value in state.values())
    # Summation order may differ between builds of torch.
    expected = float(sum(value.double().sum() for value in state.values()))
    assert facts["sum"] == pytest.approx(expected, rel=1e-9)


def test_other_components_are_copied_unchanged(saved: tuple[Path, Path]) -> None:
    teacher, student = saved
    kept = {
        path.relative_to(teacher)
        for path in teacher.rglob("*")
        if path.is_file()
        and path.suffix not in (".bin", ".ckpt")
        and path.parent.name != "unet"
        and path.name != "model_index.json"
    }
    mine = {path.relative_to(student) for path in student.rglob("*") if path.is_file()}
    unet = {Path("unet/config.json"), Path("unet/diffusion_pytorch_model.safetensors")}
    assert mine == kept | unet | {Path("model_index.json")}
    for path in kept:
        assert (student / path).read_bytes() == (teacher / path).read_bytes()
    assert str(teacher) not in (student / "unet" / "config.json").read_text()
    assert [path.name for path in student.parent.iterdir()] == ["student"]


def test_a_safety_checker_that_is_only_listed_is_left_out(
    tiny_teacher: Path, tmp_path: Path
) -> None:
    teacher = shutil.copytree(tiny_teacher, tmp_path / "teacher")
    index = read_json(teacher / "model_index.json")
    listed = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    write_json(teacher / "model_index.json", {**index, **listed, "requires_safety_checker": True})
    save_student(teacher, load_model(tiny_teacher, "unet"), tmp_path / "student")
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "student")
    assert pipeline.safety_checker is None
    assert not pipeline.config.requires_safety_checker


@pytest.mark.parametrize(
    ("index", "rule"),
    [
        (None, "must have `vae`"),
        ({"unet": ["a", "b"], "../x": ["a", "b"]}, "beside it"),
        ([], "must list a `unet`"),
    ],
)
def test_nothing_is_left_behind_by_a_failed_save(
    index: Any, rule: str, tiny_teacher: Path, tmp_path: Path
) -> None:
    teacher = shutil.copytree(tiny_teacher, tmp_path / "teacher")
    shutil.rmtree(teacher / "vae")
    if index is not None:
        write_json(teacher / "model_index.json", index)
    with pytest.raises(InputError, match=rule):
        save_student(teacher, _load(teacher), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]
