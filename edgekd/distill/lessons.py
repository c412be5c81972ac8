"""How the lesson of each phase is made of a recipe and its sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from edgekd.distill.consistency import ConsistencyDistillation
from edgekd.distill.distribution import DistributionMatching
from edgekd.distill.few_step import Drawn, TrajectoryMatching
from edgekd.distill.guidance import condition_on_guidance
from edgekd.distill.kd import NoisePrediction
from edgekd.distill.lesson import Lesson
from edgekd.distill.projections import add_projections
from edgekd.distill.sources import Sources
from edgekd.libraries import diffusers
from edgekd.recipe_distill import DistillSection
from edgekd.student.arch import StudentArch
from edgekd.student.build import build_student
from edgekd.student.config import to_unet_config


def first_student(section: DistillSection, arch: StudentArch, sources: Sources) -> Any:
    """A U-Net with its first weights: the teacher's, or random ones of the recipe's seed.

    Args:
        arch: with every field explicit.
    """
    unet = sources.teacher.unet
    if section.initialise == "teacher":
        return build_student(unet, arch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(section.seed)
        config = to_unet_config(arch, dict(unet.config))
        student = diffusers.UNet2DConditionModel.from_config(config)
    return student.to(unet.device)


def kd_lesson(
    section: DistillSection, arch: StudentArch, sources: Sources, accelerator: Any
) -> NoisePrediction:
    """The lesson of the phase `kd`."""
    student = first_student(section, arch, sources)
    add_projections(student, arch, sources.teacher.unet, section.losses)
    return NoisePrediction(section, arch, _trainable(section, student), sources, accelerator)


def few_step_lesson(
    section: DistillSection,
    student: Any,
    sources: Sources,
    drawn: Callable[[], Drawn],
    accelerator: Any,
) -> Lesson:
    """The lesson of the phase `few_step`, by the recipe's method.

    Args:
        student: the U-Net to begin with.
        drawn: gives the teacher's trajectories; called for the method that learns from them.
    """
    method = section.few_step.method
    if method == "consistency":
        student = _trainable(section, condition_on_guidance(student))
        return ConsistencyDistillation(section, student, sources, accelerator)
    student = _trainable(section, student)
    if method == "distribution":
        return DistributionMatching(section, student, sources, accelerator)
    return TrajectoryMatching(section, student, sources, drawn(), accelerator)


def _trainable(section: DistillSection, unet: Any) -> Any:
    if section.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    # Evaluation mode: a U-Net has no layer that must train differently, and the dropout that
    # a config may ask for would draw from the global generator.
    return unet.requires_grad_(True).eval()
