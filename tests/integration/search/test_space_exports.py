"""Candidates of a search as pipelines: built, drawn with, loaded in stock diffusers, exported."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.diffusion.load import load_model
from edgekd.export.capture import capture
from edgekd.export.protocol import Conversion
from edgekd.export.registry import get_exporter
from edgekd.libraries import diffusers
from edgekd.reading import read_json
from edgekd.search.candidate import Candidate
from edgekd.search.dimensions import SpaceSettings
from edgekd.search.space import SearchSpace
from edgekd.student.arch import StudentArch
from edgekd.student.build import build_student, save_student

TOKENIZER = SimpleNamespace(model_max_length=77)
# Both sides add in float32 in another order; outputs are about 1.
ATOL = 1e-4


def make_space(path: Path) -> SearchSpace:
    unet, vae = (read_json(path / name / "config.json") for name in ("unet", "vae"))
    return SearchSpace(SpaceSettings(unet, vae, (4, 2), ("fp32",)))


def samples(path: Path, count: int) -> list[Candidate]:
    """Of different U-Nets."""
    space, rng = make_space(path), np.random.default_rng(0)
    found: dict[StudentArch, Candidate] = {}
    while len(found) < count:
        one = space.sample(rng)
        found.setdefault(one.arch, one)
    return list(found.values())


def check(path: Path, candidate: Candidate, folder: Path) -> None:
    student = build_student(load_model(path, "unet"), candidate.arch)
    save_student(path, student, folder / "student")
    check_pipeline(folder / "student", student)
    check_export(folder / "onnx", student)


@pytest.mark.parametrize("fixture", ["tiny_teacher", "tiny_sdxl_teacher"])
def test_a_sample_builds_draws_loads_and_exports(fixture, request, tmp_path):
    path = request.getfixturevalue(fixture)
    check(path, make_space(path).sample(np.random.default_rng(5)), tmp_path)


@pytest.mark.parametrize("index", range(5))
def test_more_samples_load_and_export(index, tiny_teacher, tmp_path):
    candidate = samples(tiny_teacher, 5)[index]
    student = build_student(load_model(tiny_teacher, "unet"), candidate.arch)
    save_student(tiny_teacher, student, tmp_path / "student")
    stock = diffusers.UNet2DConditionModel.from_pretrained(
        tmp_path / "student" / "unet", local_files_only=True
    )
    check_weights(stock, student)
    check_export(tmp_path / "exported", stock, "openvino" if index == 4 else "onnx")


@pytest.mark.parametrize("changes", [{}, {"removed_stages": 0}], ids=["cheapest", "emptiest"])
def test_the_strangest_graphs_do_so_too(changes, tiny_teacher, tmp_path):
    """Down blocks without a pair, the innermost one too where it stays: it passes on its input."""
    space = make_space(tiny_teacher)
    candidate = space.candidate({**space.cheapest(), **changes})
    assert not any(stage.down for stage in candidate.arch.stages[:2])
    check(tiny_teacher, candidate, tmp_path)


def check_pipeline(path: Path, student: Any) -> None:
    pipeline = diffusers.DiffusionPipeline.from_pretrained(path, local_files_only=True)
    check_weights(pipeline.unet, student)


def check_weights(stock: Any, student: Any) -> None:
    expected, found = student.state_dict(), stock.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def check_export(folder: Path, student: Any, runtime: str = "onnx") -> None:
    exporter = get_exporter(runtime)
    captured = capture(SimpleNamespace(unet=student, tokenizer=TOKENIZER), "unet")
    exporter.convert(Conversion(captured, folder / "unet"), "fp32")
    runner = exporter.open_component(folder, "unet")
    inputs = captured.example_inputs
    with torch.no_grad():
        (expected,) = captured.module(*inputs.values())
    found = runner({name: value.numpy() for name, value in inputs.items()})
    np.testing.assert_allclose(found["out_sample"], expected, rtol=0, atol=ATOL)
