"""Two processes that share a model (FSDP2 over gloo), against one process."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import sharded_child as child

from edgekd.diffusion.load import load_model
from edgekd.distill import setup
from edgekd.training.log import read_rows

TESTS = Path(__file__).parents[2]
# Two processes round sums over a batch otherwise than one: about 1e-7 of a term, and after updates
# more. Adam's first step is the rate times a gradient's sign: where a gradient is as small as its
# rounding, two runs part by two steps (2e-3). Seen: 1e-4 of a row, 3e-5 of the weights' norm.
CURVE, WEIGHTS = 1e-3, 2e-4

pytestmark = pytest.mark.xdist_group("sharded")


@pytest.fixture(scope="module")
def two(shallow_teacher, tmp_path_factory) -> Path:
    """What two processes made: all trainings, `kd` killed on its way, `killed` as it was then."""
    out = tmp_path_factory.mktemp("two")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    command = [sys.executable, "-m", "fixtures.sharded_child", str(shallow_teacher), str(out)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**environment, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def one(monkeypatch, tmp_path) -> Path:
    monkeypatch.setattr(setup, "_TEACHER_STEPS", 1)
    monkeypatch.setattr(setup, "_SHOWN_STEPS", ())
    return tmp_path


def _curve(folder: Path) -> list[dict[str, Any]]:
    """Rows without times and memory, which no rerun repeats."""
    rows = read_rows(folder / "metrics.jsonl")
    return [{k: v for k, v in row.items() if not k.endswith(("_s", "_bytes"))} for row in rows]


def _weights(folder: Path) -> torch.Tensor:
    unet = load_model(folder, "unet")
    assert type(unet).__name__ == unet.config["_class_name"] == "UNet2DConditionModel"
    return torch.cat([p.flatten() for p in unet.parameters()])


def _check(ours: Path, theirs: Path) -> None:
    curve = _curve(theirs)
    assert "loss" in curve[-2]
    assert [pytest.approx(row, rel=CURVE) for row in curve] == _curve(ours)
    expected = _weights(theirs)
    apart = (_weights(ours) - expected).norm() / expected.norm()
    assert float(apart) < WEIGHTS


def test_a_shared_student_killed_and_resumed_learns_as_one_process_does(two, one, shallow_teacher):
    """With projections, attention and features, in two micro-batches."""
    child.train_kd(shallow_teacher, one, 1)
    assert len(_curve(one)) == 3 + 3
    _check(two / "kd", one)
    assert [p.name for p in (two / "kd" / "samples").iterdir()] == ["step-00000003.png"]
    assert not (two / "kd" / "checkpoints").exists()


def test_one_process_goes_on_from_what_two_have_saved(two, one, shallow_teacher):
    shutil.copytree(two / "killed", one / "kd")
    assert [p.name for p in (one / "kd" / "checkpoints").iterdir()] == ["step-00000002"]
    child.train_kd(shallow_teacher, one / "kd", 1)
    _check(two / "kd", one / "kd")


@pytest.mark.parametrize("method", child.METHODS)
def test_shared_few_step_students_learn_as_in_one_process(two, one, shallow_teacher, method):
    child.train_few_step(shallow_teacher, one, 1, method)
    _check(two / method, one / method)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_holds_half_of_all_that_grows_with_the_student(two, rank):
    """Of a weight of an odd number of rows the first process has one more."""
    held = json.loads((two / "kd" / f"held-{rank}.json").read_text())
    assert set(held) == {"student", "gradients", "moments", "average", "teacher"}
    assert list(held.values()) == [pytest.approx(0.5, abs=0.01)] * 5
