"""The runtime draws diffusers' pictures: same prompts and seeds, no torch on its side."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.exports import group

from edgekd.benchmark.torch_drawer import set_scheduler
from edgekd.libraries import diffusers
from edgekd.runtime import Pipeline
from edgekd.runtime.scheduler_config import parse_config

pytestmark = group("onnx", "starter_teacher")

# The floor of float32 exports, for their reason: the error stays below one grey level of 255.
FLOOR_DB = 50.0
PROMPTS = ["red apple", "a smiling cat face", "blue car"]

# The settings of the starter and of the tiny teachers.
AS_EXPORTED = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}

Case = tuple[Any, Pipeline]  # diffusers' pipeline and its export, opened
OpenCase = Callable[[str], Case]


@pytest.fixture(scope="module")
def guidance_distilled(shallow_teacher, tmp_path_factory) -> Path:
    """A latent consistency student: its U-Net is told the guidance scale."""
    path = tmp_path_factory.mktemp("students") / "lcm"
    shutil.copytree(shallow_teacher, path)
    config = json.loads((path / "unet" / "config.json").read_text(encoding="utf-8"))
    with torch.random.fork_rng():
        torch.manual_seed(2)
        unet = diffusers.UNet2DConditionModel.from_config({**config, "time_cond_proj_dim": 33})
    unet.save_pretrained(path / "unet", safe_serialization=True)
    diffusers.LCMScheduler(steps_offset=1).save_pretrained(path / "scheduler")
    index = (path / "model_index.json").read_text(encoding="utf-8")
    (path / "model_index.json").write_text(
        index.replace("DDIMScheduler", "LCMScheduler"), encoding="utf-8"
    )
    return path


@pytest.fixture(scope="module")
def opened(request, export_onnx) -> OpenCase:
    made: dict[str, Case] = {}

    def make(name: str) -> Case:
        if name not in made:
            source = request.getfixturevalue(name)
            made[name] = (in_torch(source), Pipeline.open(export_onnx(source), threads=1))
        return made[name]

    return make


def in_torch(source: Path) -> Any:
    pipeline = diffusers.DiffusionPipeline.from_pretrained(source, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def with_scheduler(case: Case, name: str, **changes: Any) -> Case:
    """The same pipelines with another sampler; diffusers' is changed in place."""
    theirs, ours = case
    scheduler = getattr(diffusers, name).from_config({**AS_EXPORTED, **changes})
    theirs.scheduler = scheduler
    config = parse_config({**scheduler.config, "_class_name": name})
    return theirs, replace(ours, folder=replace(ours.folder, scheduler=config))


def psnr(case: Case, prompts: list[str], **options: Any) -> float:
    """Least PSNR of the pictures against diffusers', in dB."""
    theirs, ours = case
    seed = options.pop("seed", 0)
    found = ours.generate(prompts, seed=seed, **options)
    options["num_inference_steps"] = options.pop("steps")
    negative = options.pop("negative_prompt", None)
    if isinstance(negative, str):
        negative = [negative] * len(prompts)
    options.pop("fuse_guidance", None)
    expected = theirs(
        prompts,
        negative_prompt=negative,
        generator=[torch.Generator().manual_seed(seed + i) for i in range(len(prompts))],
        output_type="np",
        **options,
    ).images
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert found.std() > 1  # no constant picture
    errors = found.astype(np.float64) / 255 - np.round(expected * 255) / 255
    means = (errors**2).mean(axis=(1, 2, 3))
    return float(min(-10 * np.log10(np.maximum(means, 1e-12))))


SESSIONS = [
    ("DDIMScheduler", {}, 8, 4.0),
    ("DDIMScheduler", {}, 8, 1.0),
    ("DDIMScheduler", {"timestep_spacing": "trailing"}, 5, 4.0),
    ("EulerDiscreteScheduler", {}, 8, 4.0),
    ("EulerDiscreteScheduler", {"timestep_spacing": "linspace"}, 8, 1.0),
    ("EulerAncestralDiscreteScheduler", {}, 8, 4.0),
    ("LCMScheduler", {}, 4, 1.0),
    ("LCMScheduler", {}, 4, 4.0),
    ("PNDMScheduler", {"skip_prk_steps": True}, 1, 4.0),
    ("PNDMScheduler", {"skip_prk_steps": True}, 4, 4.0),
    ("PNDMScheduler", {}, 4, 1.0),
    ("DPMSolverMultistepScheduler", {}, 10, 4.0),
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, 4, 4.0),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, 4, 4.0),
    ("UniPCMultistepScheduler", {}, 4, 4.0),
    ("HeunDiscreteScheduler", {}, 2, 4.0),
    ("DDPMScheduler", {}, 4, 4.0),
    ("TCDScheduler", {}, 2, 1.0),
]
# Of samplers alone: at most a pixel in 15 is another level of 255, where both are rounded.
SAMPLER_FLOOR_DB = 60.0


@pytest.mark.parametrize(("name", "changes", "steps", "guidance"), SESSIONS)
def test_starter(opened, name, changes, steps, guidance):
    case = with_scheduler(opened("starter_teacher"), name, **changes)
    found = psnr(case, PROMPTS[:1], steps=steps, guidance_scale=guidance, seed=41)
    assert found >= SAMPLER_FLOOR_DB


def test_a_pndm_teacher_is_drawn_as_pndm(shallow_teacher, export_onnx, tmp_path):
    """Stable Diffusion 1.x as it is published, and a sampler of one's own choice."""
    stock = {
        "_class_name": "PNDMScheduler",
        "_diffusers_version": "0.7.0.dev0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
        "clip_sample": False,
    }
    source = tmp_path / "teacher"
    shutil.copytree(shallow_teacher, source)
    (source / "scheduler" / "scheduler_config.json").write_text(json.dumps(stock))
    index = (source / "model_index.json").read_text(encoding="utf-8")
    (source / "model_index.json").write_text(index.replace("DDIMScheduler", "PNDMScheduler"))
    exported = export_onnx(source)
    assert json.loads((exported / "manifest.json").read_text())["warning"] is None
    theirs = in_torch(source)
    options: dict[str, Any] = {"steps": 3, "guidance_scale": 4.0}
    ours = Pipeline.open(exported, threads=1)
    assert psnr((theirs, ours), PROMPTS[:1], **options) >= SAMPLER_FLOOR_DB
    set_scheduler(theirs, "UniPCMultistepScheduler")
    ours = Pipeline.open(exported, threads=1, sampler="unipc")
    assert psnr((theirs, ours), PROMPTS[:1], **options) >= SAMPLER_FLOOR_DB


def test_negative_prompts_sizes_and_two_calls(opened):
    case = with_scheduler(opened("starter_teacher"), "DDIMScheduler")
    options = {"steps": 4, "guidance_scale": 4.0, "height": 64, "width": 96}
    size = case[1].folder.shapes.multiple
    assert options["height"] % size == options["width"] % size == 0
    for negative in ("green", ["green", "round"]):
        found = psnr(case, PROMPTS[:2], negative_prompt=negative, fuse_guidance=False, **options)
        assert found >= FLOOR_DB


@pytest.mark.parametrize("negative", [None, "", "green"])
def test_sdxl(opened, negative):
    case = with_scheduler(opened("shallow_sdxl_teacher"), "DDIMScheduler")
    options = {"steps": 4, "guidance_scale": 4.0, "negative_prompt": negative}
    assert psnr(case, PROMPTS[:2], **options) >= FLOOR_DB


def test_sdxl_without_guidance(opened):
    case = with_scheduler(opened("shallow_sdxl_teacher"), "DDIMScheduler")
    assert psnr(case, PROMPTS[:2], steps=4, guidance_scale=1.0) >= FLOOR_DB


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_v_prediction(opened, name):
    changes = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    case = with_scheduler(
        opened("shallow_sdxl_teacher"), name, timestep_spacing="trailing", **changes
    )
    assert psnr(case, PROMPTS[:2], steps=4, guidance_scale=4.0) >= FLOOR_DB


@pytest.mark.parametrize("guidance", [1.0, 8.0])
def test_guidance_distilled(opened, guidance):
    case = opened("guidance_distilled")
    assert case[1].folder.guidance_width == 33
    assert psnr(case, PROMPTS, steps=4, guidance_scale=guidance) >= FLOOR_DB


def test_guidance_conditioning_is_heard(opened):
    _, ours = opened("guidance_distilled")
    weak, strong = (
        ours.generate(["red apple"], steps=2, guidance_scale=scale) for scale in (1.0, 8.0)
    )
    assert (weak != strong).any()


def test_openvino_draws_the_same(opened, guidance_distilled, export_onnx, tmp_path):
    """The tiny student as OpenVINO's own converter reads it from ONNX."""
    import openvino

    folder = tmp_path / "openvino"
    shutil.copytree(export_onnx(guidance_distilled), folder)
    for path in folder.glob("*/model.onnx"):
        model = openvino.convert_model(path)
        openvino.save_model(model, path.with_name("openvino_model.xml"), compress_to_fp16=False)
        path.unlink()
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    (folder / "manifest.json").write_text(json.dumps({**manifest, "runtime": "openvino"}))
    theirs, _ = opened("guidance_distilled")
    ours = Pipeline.open(folder, threads=1)
    assert psnr((theirs, ours), PROMPTS[:2], steps=3, guidance_scale=4.0) >= FLOOR_DB
    size = {"height": 64, "width": 96}
    assert psnr((theirs, ours), PROMPTS[:1], steps=2, guidance_scale=1.0, **size) >= FLOOR_DB


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=group("coreml", name))
        for name in ("shallow_teacher", "shallow_sdxl_teacher", "guidance_distilled")
    ],
)
def test_core_mls_packages_draw_the_same(name, request, export_to):
    """Packages of a fixed batch of two, evaluated where there is no Core ML."""
    from edgekd.export.coreml.mil.evaluator import PackageEvaluator
    from edgekd.runtime.conditions import open_encoders
    from edgekd.runtime.coreml_backend import COREML, CoreMlBackend
    from edgekd.runtime.folder import read_folder

    source = request.getfixturevalue(name)
    folder = read_folder(export_to(source, "coreml", "fp16").path)
    backend = CoreMlBackend(folder.path, None if COREML.executes_here() else PackageEvaluator)
    case = (in_torch(source), Pipeline(folder, backend, tuple(open_encoders(folder, backend))))
    assert psnr(case, PROMPTS, steps=3, guidance_scale=4.0, seed=5) >= FLOOR_DB
    options = {"steps": 2, "guidance_scale": 4.0, "fuse_guidance": False}
    assert psnr(case, PROMPTS[:1], **options) >= FLOOR_DB
    if name == "shallow_teacher":
        assert psnr(case, PROMPTS[:1], steps=2, guidance_scale=1.0) >= FLOOR_DB
