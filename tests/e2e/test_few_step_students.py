"""Few-step students in stock diffusers and in the torch-free runtime, from their folders alone."""

from pathlib import Path
from typing import Any

import pytest
import torch

from edgekd.benchmark.generation import stated_generation
from edgekd.diffusion.load import load_teacher
from edgekd.distill.deployment import student_drawing
from edgekd.distill.guidance import condition_on_guidance
from edgekd.libraries import diffusers
from edgekd.model_card import Card, write_card
from edgekd.recipe_distill import DistillSection, FewStepSection
from edgekd.runtime import Pipeline
from edgekd.student.build import build_student, save_student
from edgekd.student.resolve import full

# The floor of float32 exports: the error stays below one grey level of 255.
FLOOR_DB = 50.0


def _student(teacher_path: Path, out: Path, method: str) -> Path:
    """As the phase leaves it; it has learned to listen to the scale, if it is told one."""
    teacher = load_teacher(teacher_path)
    settings = FewStepSection(method=method, student_steps=3, guidance_scale=6.0)
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


def _expected(folder: Path, **options: Any) -> Any:
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    prompts = ["red apple", "blue car"]
    return pipeline(prompts, generator=generators, output_type="np", **options).images


@pytest.mark.parametrize(
    ("method", "family"),
    [
        ("trajectory", "shallow_teacher"),
        ("consistency", "shallow_teacher"),
        ("consistency", "shallow_sdxl_teacher"),
        ("distribution", "shallow_teacher"),
    ],
)
def test_the_export_draws_stock_diffusers_pictures(request, export_onnx, tmp_path, method, family):
    folder = _student(request.getfixturevalue(family), tmp_path / "student", method)
    said = stated_generation(folder)
    assert said is not None
    exported = Pipeline.open(export_onnx(folder), threads=1)
    found = exported.generate(
        ["red apple", "blue car"], seed=0, steps=said.steps, guidance_scale=said.guidance_scale
    )
    expected = _expected(folder, num_inference_steps=said.steps, guidance_scale=said.guidance_scale)
    errors = found.astype(float) / 255 - (expected * 255).round() / 255
    assert (errors**2).mean(axis=(1, 2, 3)).max() <= 10 ** (-FLOOR_DB / 10)
    assert found.std() > 1  # no constant picture
