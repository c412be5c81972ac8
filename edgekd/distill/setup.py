"""What the lessons of few-step students have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from edgekd.diffusion.noise_schedule import NoiseSchedule, read_schedule
from edgekd.distill.deployment import student_session
from edgekd.distill.sampling import SampleSheet, Session, choose_prompts
from edgekd.distill.sources import Sources
from edgekd.recipe_distill import DistillSection, FewStepSection
from edgekd.training.draws import BatchPlan, step_positions
from edgekd.training.precision import autocast_dtype, training_attention

# Steps of the teacher on the sample sheets.
_TEACHER_STEPS = 25


@dataclass(frozen=True)
class Setup:
    """Settings, sources and the place of this process among others.

    Attributes:
        schedule: the teacher's, on its device.
        autocast: type of the forward passes; None: fp32.
    """

    section: DistillSection
    sources: Sources
    schedule: NoiseSchedule
    plan: BatchPlan
    rank: int
    autocast: torch.dtype | None

    @classmethod
    def of(cls, section: DistillSection, sources: Sources, accelerator: Any) -> Setup:
        """Args: accelerator: of accelerate, without mixed precision."""
        loop = section.few_step
        return cls(
            section,
            sources,
            read_schedule(sources.teacher.scheduler).to(accelerator.device),
            BatchPlan(loop.batch_size, loop.gradient_accumulation, accelerator.num_processes),
            accelerator.process_index,
            autocast_dtype(section.precision, accelerator.device),
        )

    @property
    def settings(self) -> FewStepSection:
        return self.section.few_step

    @property
    def device(self) -> torch.device:
        return self.sources.teacher.device

    def positions(self, step: int, micro: int) -> range:
        """Stream positions of this process's micro-batch; see `edgekd.training.draws`."""
        return step_positions(step, micro, self.rank, self.plan)

    def sheet(self) -> SampleSheet:
        """Guided pictures of the teacher above those of the deployed student."""
        section, teacher = self.section, self.sources.teacher
        return SampleSheet(
            teacher,
            Session(teacher.scheduler, _TEACHER_STEPS, self.settings.guidance_scale),
            student_session(self.settings, teacher.scheduler),
            choose_prompts(section.sample_prompts, self.sources.validation),
            self.sources.latent_size,
            section.seed,
        )

    @contextlib.contextmanager
    def attention(self, *unets: Any) -> Iterator[None]:
        """These U-Nets with the attention that trains fastest here."""
        with contextlib.ExitStack() as stack:
            for unet in unets:
                stack.enter_context(training_attention(unet, self.device, self.autocast))
            yield
