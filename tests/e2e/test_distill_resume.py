"""Distillation on real cached images of two aspects: killed in a checkpoint, and between two."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.caches import cached_images
from safetensors.torch import load_file

from edgekd.data.cache import CachedLatents
from edgekd.training.log import read_rows

# Runs `distill` in processes that are really killed. They are forks of one process that has
# imported everything, because importing takes longer than training here.
_DRIVER = """
import json, os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from edgekd.artifacts import TeacherCache
from edgekd.reading import read_json
from edgekd.distill.folder import RunFolder
from edgekd.distill.loop import train_kd
from edgekd.distill.sources import CachedTeacher
from edgekd.distill.trainer import Trainer
from edgekd.progress import Silent
from edgekd.recipe_distill import DistillSection
from edgekd.student.resolve import preset
from edgekd.training import checkpoint
import torch.utils.tensorboard

work = json.loads(sys.argv[1])
cache = TeacherCache(Path(work["cache"]), work["cache_key"], work["teacher_key"])

def run(out):
    section = DistillSection.model_validate(work["section"])
    teacher = Path(work["teacher"])
    arch = preset("bk-sdm-small", read_json(teacher / "unet" / "config.json"))
    source = CachedTeacher(teacher, cache)
    train_kd(section, arch, source, RunFolder(Path(out), "key"), Silent())

def fork(out, before=lambda: None):
    child = os.fork()
    if child == 0:
        before()
        run(out)
        os._exit(0)
    return child

def wait(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def die_in_second_checkpoint():
    write, calls = checkpoint._write, []
    def write_and_die(tensors, path):
        write(tensors, path)
        calls.append(path)
        if len(calls) == 6:  # four files each
            os.kill(os.getpid(), signal.SIGKILL)
    checkpoint._write = write_and_die

def die_after_update():
    update = Trainer._update
    def update_and_die(trainer, step, number):
        row = update(trainer, step, number)
        if step == 7:  # the weights have changed, and nothing says so yet
            os.kill(os.getpid(), signal.SIGKILL)
        return row
    Trainer._update = update_and_die

assert wait(fork(work["whole"])) == 0
out = Path(work["out"])
assert wait(fork(out, die_in_second_checkpoint)) == -signal.SIGKILL
print(sorted(p.name for p in (out / "checkpoints").glob("step-*")))
assert wait(fork(out, die_after_update)) == -signal.SIGKILL
assert not (out / "unet").exists()
assert wait(fork(out)) == 0
"""

_SECTION = {
    "steps": 10,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "checkpoint_every": 3,
    "validate_every": 5,
    "validation_samples": 4,
    "sample_prompts": ["red apple"],
    "sample_steps": 1,
    "threads": 1,
}


@pytest.fixture(scope="module")
def work(tmp_path_factory, tiny_teacher) -> dict[str, Any]:
    cache = cached_images(tiny_teacher, tmp_path_factory.mktemp("distill"), bucket_step=8)
    square, upright = CachedLatents.load(cache, "train").buckets
    assert len(square) > len(upright) > 2
    return {
        "teacher": str(tiny_teacher),
        "cache": str(cache.root),
        "cache_key": cache.key,
        "teacher_key": cache.teacher_key,
        "section": _SECTION,
    }


def _curve(out: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if not name.endswith(("_s", "_bytes"))}
        for row in read_rows(out / "metrics.jsonl")
    ]


def _student(out: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = load_file(
        out / "unet" / "diffusion_pytorch_model.safetensors"
    )
    return tensors


def test_a_killed_run_ends_with_the_same_bits(work, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "killed"
    work = {**work, "whole": str(whole), "out": str(out)}
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER, json.dumps(work)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # The checkpoint that the first kill cut off never got its name.
    assert done.stdout.splitlines()[-1] == "['step-00000003']"
    assert _curve(out) == _curve(whole)
    assert [row["step"] for row in _curve(out) if "loss" in row] == list(range(1, 11))
    ours, theirs = _student(out), _student(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    left = sorted(p.name for p in out.iterdir())
    assert left == ["artifact.json", "metrics.jsonl", "samples", "tensorboard", "unet"]
