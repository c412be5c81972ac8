"""`edgekd teach` on a tiny recipe: whole, resumed after kill -9, readable by stock diffusers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from edgekd.artifacts import run_lock
from edgekd.data.records import STARTER_PARQUET
from edgekd.errors import InputError
from edgekd.libraries import diffusers
from edgekd.progress import Silent
from edgekd.teacher.recipe import load_teach_recipe
from edgekd.teacher.teach import STAGES, run_teach
from edgekd.teacher.teach_assemble import assemble
from edgekd.teacher.teach_log import METRICS_FILE, read_metrics

TINY = Path(__file__).parents[1] / "tiny-teacher.yaml"


@pytest.fixture(scope="module")
def assignments(tmp_path_factory):
    """A few of the starter's images, among them held-out ones."""
    path = tmp_path_factory.mktemp("data") / "few.parquet"
    pq.write_table(pq.read_table(STARTER_PARQUET).slice(2000, 60), path)
    return [f"data.sources=[{path}]"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, assignments):
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("teach") / "whole"
    assert run_teach(TINY, assignments, out, None, Silent()) == out / "teacher"
    return out


def curves(out):
    return {
        stage: [
            {name: value for name, value in row.items() if not name.endswith("_s")}
            for row in read_metrics(out / stage / METRICS_FILE)
        ]
        for stage in STAGES
    }


def weights(out):
    files = sorted((out / "teacher").rglob("*.safetensors"))
    return {f"{file.parent.name}.{k}": v for file in files for k, v in load_file(file).items()}


def test_stock_diffusers_draws_with_it(whole):
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        whole / "teacher", torch_dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    pictures = pipeline(
        "red apple, on a blue background",
        num_inference_steps=2,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images
    assert pictures.shape == (1, 16, 16, 3)
    assert np.isfinite(pictures).all()
    assert {tensor.dtype for tensor in weights(whole).values()} == {torch.float16}
    for config in (whole / "teacher").rglob("*.json"):
        assert str(whole) not in config.read_text(encoding="utf-8"), config


def test_the_latents_that_it_learned_are_normalised(whole):
    config = json.loads((whole / "teacher" / "vae" / "config.json").read_text())
    assert config["scaling_factor"] == pytest.approx(1.0, abs=0.05)
    latents = np.load(whole / "cache" / "latents" / "array.npy")
    assert latents.shape[1:] == (2, 4, 8, 8)
    assert np.allclose(latents.astype(np.float32).mean(axis=(0, 1, 3, 4)), 0, atol=0.2)


def test_what_a_run_leaves(whole):
    names = {path.name for path in whole.iterdir()}
    wanted = {"recipe.json", "loss.png", "samples", "teacher", "cache", *STAGES}
    assert wanted | {".lock"} == names
    assert (whole / "samples" / "00000030.png").is_file()
    for stage, rows in curves(whole).items():
        steps = [row["step"] for row in rows if "loss" in row]
        assert steps == list(range(1, len(steps) + 1)), stage
        assert any(name.startswith("validation_") for row in rows for name in row), stage


def test_second_run_does_nothing(whole, assignments):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    run_teach(TINY, assignments, whole, None, Silent())
    changed = {p.name for p in before if p.stat().st_mtime_ns != before[p]}
    assert changed <= {"recipe.json", ".lock"}


def test_kill_and_resume_gives_the_same_curves_and_weights(whole, assignments, tmp_path):
    out = tmp_path / "killed"
    sets = [argument for item in assignments for argument in ("--set", item)]
    command = [sys.executable, "-m", "edgekd.teacher.teach", str(TINY), "--out", str(out), *sets]
    process = subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while len(read_metrics(out / "unet" / METRICS_FILE)) < 3:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "teacher").exists()
    # What there is at this moment can be used.
    assemble(load_teach_recipe(TINY, assignments), out)
    assert curves(out)["unet"][-1]["step"] < 30
    run_teach(TINY, assignments, out, None, Silent())
    assert curves(out) == curves(whole)
    ours, theirs = weights(out), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_one_process_at_a_time(whole, assignments):
    with run_lock(whole), pytest.raises(InputError, match="one process"):
        run_teach(TINY, assignments, whole, None, Silent())


def test_assemble_needs_a_checkpoint(tmp_path):
    with pytest.raises(InputError, match="must have a checkpoint"):
        assemble(load_teach_recipe(TINY), tmp_path)
