"""Few-step students in every client, from their folders alone: the pictures of stock diffusers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.benchmark.generation import recommended_generation
from edgekd.diffusion.load import load_teacher
from edgekd.distill.deployment import student_drawing
from edgekd.distill.guidance import condition_on_guidance
from edgekd.export.manifest import read_manifest
from edgekd.export.picture_parity import psnr_db
from edgekd.export.protocol import Generation
from edgekd.libraries import diffusers
from edgekd.model_card import CARD_FILE, Card, read_header, write_card
from edgekd.recipe_distill import DistillSection, FewStepSection
from edgekd.runtime import Pipeline
from edgekd.runtime.openvino_backend import properties
from edgekd.student.build import build_student, save_student
from edgekd.student.resolve import full

# The floor of float32 exports: the error stays below one grey level of 255.
FLOOR_DB = 50.0
# Of pictures that are not rounded to grey levels: a quarter of one, as of guided teachers.
EXACT_DB = 60.0
# A trained network, where a client brings a DDIM of its own: any wrong setting shows in its
# pictures (no `set_alpha_to_one`: 42 dB); random weights hide it.
TRAINED = {("trajectory", "openvino"): "starter_teacher"}
# Scheduler and weights of a folder are the same whatever the steps: one export serves them all.
STEPS = {"trajectory": (1, 2, 4), "consistency": (4,)}
PROMPTS = ["red apple", "blue car"]

Get = Callable[..., Path]  # method, runtime that it is exported for, teacher -> folder
Draw = Callable[[str, int, float], Any]  # prompt, steps, guidance -> [H,W,3] from 0 to 1


def _student(teacher_path: Path, out: Path, method: str) -> Path:
    """As the phase leaves it; it has learned to listen to the scale, if it is told one."""
    teacher = load_teacher(teacher_path)
    settings = FewStepSection(method=method, student_steps=4, guidance_scale=6.0)
    session = student_drawing(DistillSection(few_step=settings), teacher.scheduler)
    unet = build_student(teacher.unet, full(dict(teacher.unet.config)))
    if method == "consistency":
        unet = condition_on_guidance(unet)
        source = torch.Generator().manual_seed(0)
        torch.nn.init.normal_(unet.time_embedding.cond_proj.weight, std=0.1, generator=source)
    save_student(teacher_path, unet, out, deployed=session)
    drawn = {"num_inference_steps": session.steps, "guidance_scale": session.guidance_scale}
    write_card(out, Card("student", "teacher", "A student.", parameters=drawn))
    return out


@pytest.fixture(scope="module")
def student(request, tmp_path_factory) -> Get:
    made: dict[tuple[str, str], Path] = {}

    def get(method: str, runtime: str, teacher: str = "shallow_teacher") -> Path:
        asked = (method, TRAINED.get((method, runtime), teacher))
        if asked not in made:
            out = tmp_path_factory.mktemp("few") / "student"
            made[asked] = _student(request.getfixturevalue(asked[1]), out, method)
        return made[asked]

    return get


def _diffusers(folder: Path) -> Draw:
    return _called(diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True))


def _optimum(folder: Path) -> Draw:
    from optimum.onnxruntime import ORTDiffusionPipeline

    return _called(ORTDiffusionPipeline.from_pretrained(folder))


def _optimum_intel(folder: Path) -> Draw:
    from optimum.intel import OVDiffusionPipeline

    return _called(OVDiffusionPipeline.from_pretrained(folder, ov_config=properties("f32", 1)))


def _genai(folder: Path) -> Draw:
    import openvino_genai

    pipeline = openvino_genai.Text2ImagePipeline(str(folder), "CPU", **properties("f32", 1))

    def draw(prompt: str, steps: int, scale: float) -> Any:
        noise = openvino_genai.TorchGenerator(0)
        told = {"num_inference_steps": steps, "guidance_scale": scale, "generator": noise}
        return pipeline.generate(prompt, **told).data[0] / 255

    return draw


def _called(pipeline: Any) -> Draw:
    pipeline.set_progress_bar_config(disable=True)

    def draw(prompt: str, steps: int, scale: float) -> Any:
        noise = torch.Generator().manual_seed(0)
        told = {"num_inference_steps": steps, "guidance_scale": scale, "generator": noise}
        return pipeline(prompt, output_type="np", **told).images[0]

    return draw


@pytest.mark.parametrize(
    ("runtime", "open_client", "least_db"),
    [
        ("onnx", _optimum, EXACT_DB),
        ("openvino", _optimum_intel, EXACT_DB),
        # Its pictures have 8 bits, and grey levels are cut off instead of rounded: that alone
        # leaves 10 log10(3 * 255^2) = 52.9 dB. Its DDIM spaces the betas in 1000 steps, not in 999:
        # latents of one step from noise are 0.3 % off, which does not show.
        ("openvino", _genai, FLOOR_DB),
    ],
)
@pytest.mark.parametrize("method", STEPS)
def test_stock_clients_draw_stock_diffusers_pictures(
    student, export_to, method, runtime, open_client, least_db
):
    folder = student(method, runtime)
    drawers = [_diffusers(folder), open_client(export_to(folder, runtime, "fp32").path)]
    scale = recommended_generation(folder).guidance_scale
    for steps in STEPS[method]:
        expected, found = (draw(PROMPTS[0], steps, scale) for draw in drawers)
        assert psnr_db(expected, found) > least_db, steps
        assert np.ptp(found) > 0.1  # no constant picture


@pytest.mark.parametrize(
    ("method", "runtime", "teacher"),
    [
        ("trajectory", "onnx", "shallow_teacher"),
        ("trajectory", "openvino", "starter_teacher"),
        ("consistency", "onnx", "shallow_teacher"),
        ("consistency", "openvino", "shallow_teacher"),
        ("consistency", "onnx", "shallow_sdxl_teacher"),
        ("distribution", "onnx", "shallow_teacher"),
    ],
)
def test_the_runtime_draws_stock_diffusers_pictures(student, export_to, method, runtime, teacher):
    folder = student(method, runtime, teacher)
    exported = Pipeline.open(export_to(folder, runtime, "fp32").path, threads=1)
    found = exported.generate(PROMPTS, seed=0)
    said = recommended_generation(folder)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        PROMPTS,
        num_inference_steps=said.steps,
        guidance_scale=said.guidance_scale,
        generator=[torch.Generator().manual_seed(i) for i in range(2)],
        output_type="np",
    ).images
    for one, other in zip(found, expected, strict=True):
        assert psnr_db((other * 255).round() / 255, one / 255) >= FLOOR_DB
    assert found.std() > 1  # no constant picture


@pytest.mark.parametrize(("method", "scale"), [("trajectory", 1.0), ("consistency", 6.0)])
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_exports_say_how_the_student_was_taught(student, export_to, method, scale, runtime):
    exported = export_to(student(method, runtime), runtime, "fp32").path
    manifest = read_manifest(exported)
    assert manifest.recommended == Generation(4, scale)
    assert manifest.warning is None  # the target's clients know the scheduler
    told = {"num_inference_steps": 4, "guidance_scale": scale}
    assert read_header(exported)["inference"]["parameters"] == told
    card = (exported / CARD_FILE).read_text(encoding="utf-8")
    calls = card.count(f"(prompt, num_inference_steps=4, guidance_scale={scale:g})")
    assert calls == {"onnx": 1, "openvino": 2}[runtime]  # optimum-intel and GenAI
