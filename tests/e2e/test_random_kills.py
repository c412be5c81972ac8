"""Every phase of a distillation on images of two aspects, killed at random moments."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from fixtures.caches import cached_images
from safetensors.torch import load_file

from edgekd.recipe_distill import FewStepSection
from edgekd.training.log import read_rows

# Of each phase and method. Where nobody asks for more, one of one: each has its own test of a stop.
KILLS = int(os.environ.get("EDGEKD_KILLS", "0"))
# Forks of a process that has imported everything, and where nothing but imports has happened.
_DRIVER = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
import accelerate, torch.utils.tensorboard
from edgekd.artifacts import TeacherCache, Trajectories
from edgekd.diffusion.load import load_teacher
from edgekd.distill.folder import RunFolder
from edgekd.distill.loop import (
    FewStepPlaces, train_decoder, train_few_step, train_kd, train_text_encoder
)
from edgekd.distill.sources import CachedTeacher
from edgekd.progress import Silent
from edgekd.reading import read_json
from edgekd.recipe_distill import DistillSection
from edgekd.student.build import build_student
from edgekd.student.resolve import full, preset

work = json.loads(sys.argv[1])
teacher = Path(work["teacher"])
source = CachedTeacher(teacher, TeacherCache(Path(work["cache"]), *work["keys"]))
section = DistillSection.model_validate(work["section"])

def kd(out):
    arch = preset("bk-sdm-small", read_json(teacher / "unet" / "config.json"))
    train_kd(section, arch, source, RunFolder(out, "key"), Silent())

def few_step(out):
    def whole(sources):
        unet = sources.teacher.unet
        return build_student(unet, full(dict(unet.config)))
    places = FewStepPlaces(RunFolder(out, "key"), Trajectories(out.with_suffix(".drawn"), "key"))
    train_few_step(section, whole, source, places, Silent())

def decoder(out):
    train_decoder(section, source, None, RunFolder(out, "key", "vae"), Silent())

def text_encoder(out):
    train_text_encoder(section, source, RunFolder(out, "key", "encoders"), Silent())

def start(phase, out):
    child = os.fork()
    if child == 0:
        phase(out)
        os._exit(0)
    return child

def wait(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def kill(phase, out):
    begun = time.monotonic()
    assert wait(start(phase, out / "whole")) == 0
    took, kills, runs = time.monotonic() - begun, 0, 0
    while kills < work["kills"]:
        runs += 1
        ended = None
        while ended != 0:
            child = start(phase, out / f"run-{runs}")
            if kills < work["kills"]:
                time.sleep(random.uniform(0, took))
                os.kill(child, signal.SIGKILL)
            ended = wait(child)
            assert ended in (0, -signal.SIGKILL), ended
            kills += ended != 0
    return runs

load_teacher(teacher)  # imports what only a teacher needs: kills are to fall into the training
print(kill(globals()[work["phase"]], Path(work["out"])))
"""
_LOOP = {
    "steps": 5,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "checkpoint_every": 2,
    "validate_every": 3,
    "validation_samples": 2,
}
_FEW_STEP = {
    **_LOOP,
    "student_steps": 2,
    "teacher_steps": 4,
    "trajectories": 4,
    "fake_updates": 2,
}
_SECTION = {
    **_LOOP,
    "sample_prompts": ["red apple"],
    "sample_steps": 1,
    "threads": 1,
    "few_step": _FEW_STEP,
    "decoder": {**_LOOP, "perceptual": 0},
    "text_encoder": _LOOP,
}
# What is trained: a phase or a method of `few_step`, and the folder of its result.
_PARTS = {
    "kd": "unet",
    "trajectory": "unet",
    "consistency": "unet",
    "distribution": "unet",
    "decoder": "vae",
    "text_encoder": "encoders/text_encoder",
}


def left(out: Path, part: str) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """The curve without times, and the weights."""
    rows = read_rows(out / "metrics.jsonl")
    curve = [{k: v for k, v in row.items() if not k.endswith(("_s", "_bytes"))} for row in rows]
    (weights,) = (out / part).glob("*.safetensors")
    return curve, load_file(weights)


@pytest.mark.parametrize("trained", _PARTS if KILLS else ["trajectory"])
def test_a_phase_that_is_killed_at_any_moment_ends_with_the_same_bits(
    tiny_teacher, tmp_path, trained
):
    cache = cached_images(tiny_teacher, tmp_path, bucket_step=8)
    phase, section = trained, _SECTION
    if trained in get_args(FewStepSection.model_fields["method"].annotation):
        phase, section = "few_step", {**_SECTION, "few_step": {**_FEW_STEP, "method": trained}}
    work = {
        "teacher": str(tiny_teacher),
        "cache": str(cache.root),
        "keys": [cache.key, cache.teacher_key],
        "section": section,
        "out": str(tmp_path / "runs"),
        "kills": KILLS or 1,
        "phase": phase,
    }
    command = [sys.executable, "-c", _DRIVER, json.dumps(work)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    part = _PARTS[trained]
    curve, weights = left(tmp_path / "runs" / "whole", part)
    for run in range(1, int(done.stdout) + 1):
        out = tmp_path / "runs" / f"run-{run}"
        own_curve, own = left(out, part)
        assert own_curve == curve
        assert own.keys() == weights.keys()
        assert all(torch.equal(own[name], weights[name]) for name in own)
        assert not (out / "checkpoints").exists()
