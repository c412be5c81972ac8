"""Rows of exported folders: drawn and timed by `edgekd.runtime`, as an app would run them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.exports import group

from edgekd.benchmark.agreement import psnr_db
from edgekd.benchmark.cases import Case
from edgekd.benchmark.cost import weighing
from edgekd.benchmark.draw import open_drawer
from edgekd.benchmark.drawer import DrawingBatch
from edgekd.benchmark.scaling import Placed, ScalingPoint, open_points, time_opened
from edgekd.benchmark.speed import SpeedOrder, batch_calls, measure_speed
from edgekd.benchmark.suite import SpeedSection
from edgekd.jobs.matrix import folder_case, not_executed_here
from edgekd.jobs.models import Model
from edgekd.measure.first_picture import draw_first
from edgekd.measure.picture import PictureOrder
from edgekd.measure.speed import component_calls
from edgekd.processes.child import Child
from edgekd.recipe import RowGeneration

pytestmark = group("onnx", "starter_teacher")

# The floor of float32 exports, for their reason: the error stays below one grey level of 255.
FLOOR_DB = 50.0
CAPTIONS = ("red apple", "a smiling cat face")


def exported_case(export: Path) -> Case:
    return replace(folder_case(Model("e", "student", export, "key")), name="e")


def pair(source: Path, export: Path, generation: RowGeneration) -> tuple[Case, Case]:
    """A teacher in torch and its export."""
    torch = Case("t", "teacher", "torch", "fp32", source, generation=generation)
    return torch, replace(exported_case(export), generation=generation)


@pytest.mark.parametrize(
    ("teacher", "runtime", "precision", "generation"),
    [
        ("starter_teacher", "onnx", "fp32", RowGeneration("DDIMScheduler", 4, 4.0)),
        ("starter_teacher", "onnx", "fp32", RowGeneration("EulerDiscreteScheduler", 3, 1.0)),
        # Adds noise between its steps: the same generator goes on in both.
        ("starter_teacher", "onnx", "fp32", RowGeneration("LCMScheduler", 4, 4.0)),
        ("shallow_sdxl_teacher", "onnx", "fp32", RowGeneration("DDIMScheduler", 2, 4.0)),
        *(
            pytest.param(
                "shallow_teacher",
                runtime,
                precision,
                RowGeneration("DDIMScheduler", 2, 4.0),
                marks=group(runtime, "shallow_teacher"),
            )
            for runtime, precision in (("openvino", "fp32"), ("coreml", "fp16"))
        ),
    ],
)
def test_the_same_noise_gives_diffusers_picture(
    teacher, runtime, precision, generation, request, export_to
):
    source = request.getfixturevalue(teacher)
    cases = pair(source, export_to(source, runtime, precision).path, generation)
    assert cases[1].evaluated == not_executed_here(runtime)
    side = json.loads((cases[1].path / "manifest.json").read_text())["shapes"]["native"][0]
    theirs, ours = (
        open_drawer(case, threads=1).draw(DrawingBatch(case, 1, CAPTIONS, [3, 8], side, seed=0))
        for case in cases
    )
    assert theirs.std() > 1  # no constant picture
    assert len(ours) == len(theirs)
    assert min(map(psnr_db, ours, theirs)) >= FLOOR_DB


LIGHT = "{'torch', 'pydantic', 'edgekd.benchmark.cases'} & set(__import__('sys').modules)"
HEAVY = "{'torch', 'diffusers', 'transformers', 'optimum'} & set(__import__('sys').modules)"


def test_time_and_memory_are_those_of_a_process_without_torch(starter_export):
    generation = RowGeneration("DDIMScheduler", 1, 4.0)
    case = replace(exported_case(starter_export), generation=generation)
    speed = SpeedSection(threads=1, warmup=1, component_runs=1, image_runs=1)
    with Child("start", 1) as child:
        first = PictureOrder(starter_export, 1, "DDIMScheduler", 1, 4.0, CAPTIONS[:1], (0,), 64)
        child.call(draw_first, first)
        # As an app: nothing of the benchmark either.
        assert child.call(eval, LIGHT) == set()
    with Child("measure", 1) as child:
        batch = DrawingBatch(case, 1, CAPTIONS[:1], [0], 64, seed=0)
        memory = child.call(weighing(batch))
        point = ScalingPoint("e", "batch", 1)
        assert child.call(open_points, [Placed(point, batch)]) == {}
        assert list(child.call(time_opened)) == [point]
        timings = child.call(measure_speed, SpeedOrder([case], CAPTIONS[0], 64, speed)).timings
        assert child.call(eval, HEAVY) == set()
    parts = {"text_encoder", "unet", "unet_guided", "vae_decoder", "image"}
    assert set(timings["e"]) == parts
    # onnxruntime and numpy before, the starter's 58 MB of weights after.
    assert memory.baseline_bytes < 150 * 2**20
    assert memory.above_baseline_bytes > 58 * 10**6
    assert memory.baseline_bytes + 58 * 10**6 < memory.loaded_bytes
    assert memory.loaded_bytes <= memory.peak_bytes


@pytest.mark.parametrize(("fused", "batches"), [(True, [2]), (False, [1, 1])])
def test_a_guided_step_is_replayed_as_the_folder_runs_it(starter_export, fused, batches):
    generation = RowGeneration("DDIMScheduler", 2, 4.0)
    case = replace(exported_case(starter_export), generation=generation)
    drawer: Any = open_drawer(case, threads=1)
    options = replace(drawer.pipeline.folder.options, fused_guidance=fused)
    drawer.pipeline = replace(
        drawer.pipeline, folder=replace(drawer.pipeline.folder, options=options)
    )
    batch = DrawingBatch(case, 1, CAPTIONS[:1], [3], 64, seed=0)
    calls = component_calls(batch_calls(drawer, batch), guided=True)
    assert [len(found["out_sample"]) for found in calls["unet_guided"]()] == batches
    assert [len(found["out_sample"]) for found in calls["unet"]()] == [1]
    assert np.isfinite(calls["vae_decoder"]()[0]["sample"]).all()
