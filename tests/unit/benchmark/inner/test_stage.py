"""What is compared, kept and left out; children's work is done in this process."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgekd.artifacts import PreparedData
from edgekd.benchmark.cache import Cache
from edgekd.benchmark.cases import Case
from edgekd.benchmark.failures import Failures
from edgekd.benchmark.inner import stage
from edgekd.benchmark.inner.stage import inner_features
from edgekd.benchmark.matrix import Matrix
from edgekd.benchmark.prompts import Prompts
from edgekd.benchmark.suite import EmbeddingsSection, Suite
from edgekd.progress import Silent

COUNT = 8
IMAGES = np.random.default_rng(0).integers(0, 255, (COUNT, 32, 32, 3), dtype=np.uint8)
SUITE = Suite(
    name="tiny",
    quality={"samples": COUNT, "kid_subset_size": 2},
    embeddings=EmbeddingsSection(samples=COUNT, timesteps=1, attention_prompts=1),
)


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(autouse=True)
def _no_children(monkeypatch):
    class Here:
        def __init__(self, work: str, threads: int) -> None:
            self.work, self.process = work, self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def poll(self):
            return None

        def call(self, function, *arguments):
            return function(*arguments)

    monkeypatch.setattr(stage, "Child", Here)


def make_matrix(teacher: Path, students: dict[str, Path], out: Path, suite: Suite) -> Matrix:
    cases = [Case("teacher", "teacher", "torch", "fp32", teacher)]
    cases += [Case(name, "student", "torch", "fp32", path) for name, path in students.items()]
    drawn = tuple(case.with_generation(suite.generation) for case in cases)
    captions = tuple(f"thing {index}" for index in range(COUNT))
    return Matrix(
        suite=suite,
        metrics=(),
        cases=drawn,
        keys={case.name: case.key() for case in drawn},
        data=PreparedData(out, "data", COUNT, COUNT, 32),
        prompts=Prompts(captions, ("image",) * COUNT, captions, COUNT),
        cache=Cache(out / "cache"),
        failures=Failures(Silent()),
    )


def test_a_twin_is_alike_in_every_block_and_computed_once(shallow_teacher, tmp_path, monkeypatch):
    students = {"twin": shallow_teacher, "same folder": shallow_teacher}
    matrix = make_matrix(shallow_teacher, students, tmp_path, SUITE)
    (found,) = inner_features(matrix, IMAGES, Silent())
    assert (found.teacher, found.student, found.samples) == ("teacher", "twin", COUNT)
    assert {one.block for one in found.agreement} == {
        "down_blocks.0",
        "down_blocks.1",
        "mid_block",
        "up_blocks.0",
        "up_blocks.1",
    }
    for one in found.agreement:
        assert (one.cka, one.knn_overlap, one.procrustes) == pytest.approx((1, 1, 0), abs=1e-4)
    assert np.diag(found.cross) == pytest.approx(1)
    assert [(one.word, one.caption) for one in found.attention] == [
        ("thing", "thing 0"),
        ("0", "thing 0"),
    ]
    assert all(one.teacher == one.student for one in found.attention)
    monkeypatch.setattr(stage, "_compare_all", None)
    assert inner_features(matrix, IMAGES, Silent()) == [found]


def test_a_student_that_cannot_be_looked_into_stops_nobody_else(shallow_teacher, tmp_path):
    odd = shutil.copytree(shallow_teacher, tmp_path / "odd")
    config = json.loads((odd / "unet" / "config.json").read_text())
    config["mid_block_type"] = "UNetMidBlock2D"
    (odd / "unet" / "config.json").write_text(json.dumps(config))
    torn = shutil.copytree(shallow_teacher, tmp_path / "torn")
    (torn / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    students = {"odd": odd, "torn": torn, "twin": shallow_teacher}
    told = Told()
    found = inner_features(make_matrix(shallow_teacher, students, tmp_path, SUITE), IMAGES, told)
    assert [one.student for one in found] == ["twin"]
    left = [line for line in told.lines if "left out" in line]
    assert [line.split(" are left out: ")[0] for line in left] == [
        "inner features of odd",
        "inner features of torn",
    ]


def test_what_is_not_asked_for_is_not_computed(shallow_teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "_compare_all", None)
    suite = SUITE.model_copy(update={"embeddings": None})
    matrix = make_matrix(shallow_teacher, {"twin": shallow_teacher}, tmp_path, suite)
    assert inner_features(matrix, IMAGES, Silent()) == []
    assert inner_features(make_matrix(shallow_teacher, {}, tmp_path, SUITE), IMAGES, Silent()) == []
