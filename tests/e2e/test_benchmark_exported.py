"""Rows of exported folders: drawn and timed by `edgekd.runtime`, as an app would run them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.benchmark.agreement import psnr_db
from edgekd.benchmark.cases import Case
from edgekd.benchmark.draw import Batch, noise_seed, open_drawer
from edgekd.benchmark.orders import DrawOrder, SpeedOrder
from edgekd.benchmark.speed import component_calls
from edgekd.benchmark.suite import SpeedSection
from edgekd.jobs.matrix import not_executed_here, student_case
from edgekd.recipe import RowGeneration

# The floor of float32 exports, for their reason: the error stays below one grey level of 255.
FLOOR_DB = 50.0
CAPTIONS = ("red apple", "a smiling cat face")
SEEDS = tuple(noise_seed(0, index) for index in (3, 8))


def pair(source: Path, export: Path, generation: RowGeneration) -> tuple[Case, Case]:
    """A teacher in torch and its export."""
    torch = Case("t", "teacher", "torch", "fp32", source, generation=generation)
    return torch, replace(student_case("e", export), generation=generation)


@pytest.mark.parametrize(
    ("teacher", "runtime", "precision", "generation"),
    [
        ("starter_teacher", "onnx", "fp32", RowGeneration("DDIMScheduler", 4, 4.0)),
        ("starter_teacher", "onnx", "fp32", RowGeneration("EulerDiscreteScheduler", 3, 1.0)),
        # Adds noise between its steps: the same generator goes on in both.
        ("starter_teacher", "onnx", "fp32", RowGeneration("LCMScheduler", 4, 4.0)),
        ("shallow_sdxl_teacher", "onnx", "fp32", RowGeneration("DDIMScheduler", 2, 4.0)),
        ("starter_teacher", "openvino", "fp32", RowGeneration("DDIMScheduler", 2, 4.0)),
        ("shallow_teacher", "coreml", "fp16", RowGeneration("DDIMScheduler", 2, 4.0)),
    ],
)
def test_the_same_noise_gives_diffusers_picture(
    teacher: str,
    runtime: str,
    precision: str,
    generation: RowGeneration,
    request: pytest.FixtureRequest,
    export_to: Callable[[Path, str, str], Path],
) -> None:
    source = request.getfixturevalue(teacher)
    cases = pair(source, export_to(source, runtime, precision), generation)
    assert cases[1].evaluated == not_executed_here(runtime)
    side = json.loads((cases[1].path / "manifest.json").read_text())["shapes"]["native"][0]
    batch = Batch(CAPTIONS, SEEDS, generation, side)
    theirs, ours = (open_drawer(case, threads=1).draw(batch) for case in cases)
    assert theirs.std() > 1  # no constant picture
    assert psnr_db(ours, theirs).min() >= FLOOR_DB


def orders(case: Case) -> list[dict[str, Any]]:
    draw = DrawOrder(
        case=case, threads=1, captions=["red apple"], indices=[0], resolution=64, seed=0
    )
    speed = SpeedSection(threads=1, warmup=1, component_runs=1, image_runs=1)
    time = SpeedOrder(cases=[case], caption="red apple", resolution=64, speed=speed)
    return [draw.model_dump(mode="json"), time.model_dump(mode="json")]


def test_time_and_memory_are_those_of_a_process_without_torch(starter_export: Path) -> None:
    case = replace(
        student_case("e", starter_export), generation=RowGeneration("DDIMScheduler", 1, 4.0)
    )
    draw, speed = orders(case)
    code = (
        "import json, sys\n"
        "from edgekd.benchmark.draw import draw_one, preload\n"
        "from edgekd.benchmark.worker import Worker, answer\n"
        "draw, speed = json.loads(sys.stdin.read())\n"
        "preload(draw); draw_one(draw)\n"
        "reply = answer(Worker(), speed)\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'optimum'} & set(sys.modules)\n"
        "print(json.dumps([reply, sorted(heavy)]))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([draw, speed]),
        capture_output=True,
        text=True,
        check=True,
    )
    reply, heavy = json.loads(result.stdout)
    assert heavy == []
    parts = {"text_encoder", "unet", "unet_guided", "vae_decoder", "image"}
    assert set(reply["result"]["timings"]["e"]) == parts


@pytest.mark.parametrize(("fused", "batches"), [(True, [2]), (False, [1, 1])])
def test_a_guided_step_is_replayed_as_the_folder_runs_it(
    starter_export: Path, fused: bool, batches: list[int]
) -> None:
    generation = RowGeneration("DDIMScheduler", 2, 4.0)
    drawer: Any = open_drawer(replace(student_case("e", starter_export), generation=generation), 1)
    options = replace(drawer.pipeline.folder.options, fused_guidance=fused)
    drawer.pipeline = replace(
        drawer.pipeline, folder=replace(drawer.pipeline.folder, options=options)
    )
    calls = component_calls(drawer, Batch(CAPTIONS[:1], SEEDS[:1], generation, 64))
    assert [len(found["out_sample"]) for found in calls["unet_guided"]()] == batches
    assert [len(found["out_sample"]) for found in calls["unet"]()] == [1]
    assert np.isfinite(calls["vae_decoder"]()[0]["sample"]).all()
