"""What the lessons have in common: their settings, and the place of this process among others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from edgekd.diffusion.noise_schedule import NoiseSchedule, read_schedule
from edgekd.distill.deployment import student_drawing
from edgekd.distill.guidance import least_guided
from edgekd.distill.lesson import Plain
from edgekd.distill.sampling import SampleSheet, Sheet, choose_prompts
from edgekd.distill.sources import Sources
from edgekd.recipe_distill import DistillSection, FewStepSection, PhaseName
from edgekd.student.build import DrawingPlan
from edgekd.training.compiled import compiled
from edgekd.training.draws import BatchPlan, step_positions
from edgekd.training.precision import autocast_dtype, training_attention

# Steps of the teacher on the sample sheets of few-step students.
_TEACHER_STEPS = 25
_SHOWN_STEPS = (1, 2, 4, 8)


@dataclass(frozen=True)
class PhaseSetup:
    """Settings and sources of a phase.

    Attributes:
        schedule: the teacher's, on its device.
        rank: of this process.
        autocast: type of the forward passes; None: fp32.
    """

    section: DistillSection
    sources: Sources
    schedule: NoiseSchedule
    plan: BatchPlan
    rank: int
    autocast: torch.dtype | None

    @classmethod
    def of(
        cls, section: DistillSection, phase: PhaseName, sources: Sources, accelerator: Any
    ) -> PhaseSetup:
        """Args: accelerator: of accelerate, without mixed precision."""
        loop = section.loop(phase)
        return cls(
            section,
            sources,
            read_schedule(sources.teacher.scheduler).to(accelerator.device),
            BatchPlan(loop.batch_size, loop.gradient_accumulation, accelerator.num_processes),
            accelerator.process_index,
            autocast_dtype(section.precision, accelerator.device),
        )

    @property
    def device(self) -> torch.device:
        return self.sources.teacher.device

    def positions(self, step: int, micro: int) -> range:
        """Stream positions of this process's micro-batch; see `edgekd.training.draws`."""
        return step_positions(step, micro, self.rank, self.plan)

    def autocasting(self) -> contextlib.AbstractContextManager[Any]:
        """Forward passes in the type that trains fastest here."""
        enabled = self.autocast is not None
        return torch.autocast(self.device.type, self.autocast, enabled=enabled)

    def sheet(self, taught: DrawingPlan, *drawings: DrawingPlan) -> SampleSheet:
        """The teacher's pictures above the student's, each drawn in its way."""
        section, sources = self.section, self.sources
        return SampleSheet(
            sources.teacher,
            taught,
            drawings,
            choose_prompts(section.sample_prompts, sources.validation),
            sources.latent_size,
            section.seed,
        )

    @contextlib.contextmanager
    def prepared(self, *unets: Any, average: Any = None) -> Iterator[None]:
        """U-Nets of the training step as they train fastest here, and compiled if they are to be.

        To be entered after what taps them.

        Args:
            average: another one, that is validated and drawn with alone: not worth compiling.
        """
        with contextlib.ExitStack() as stack:
            for unet in unets if average is None else (*unets, average):
                stack.enter_context(training_attention(unet, self.device, self.autocast))
            if self.section.compile:
                stack.enter_context(compiled(*unets))
            yield


class FewStepLesson(Plain):
    """What the ways to few steps share.

    Args:
        student: its U-Net with its first weights.
        accelerator: of accelerate, without mixed precision.
    """

    phase: PhaseName = "few_step"

    def __init__(
        self, section: DistillSection, student: Any, sources: Sources, accelerator: Any
    ) -> None:
        self.model: nn.Module = student
        self._setup = PhaseSetup.of(section, "few_step", sources, accelerator)
        self._settings: FewStepSection = section.few_step
        self._least_guided = least_guided(
            self._settings.guidance_stop, self._setup.schedule.timesteps
        )
        scheduler = sources.teacher.scheduler
        own = student_drawing(section, scheduler)
        self._sheet = self._setup.sheet(
            DrawingPlan(scheduler, _TEACHER_STEPS, self._settings.guidance_scale),
            own,
            *(replace(own, steps=steps) for steps in _SHOWN_STEPS if steps != own.steps),
        )
        self._wrapped: nn.Module = student

    def draw(self, model: nn.Module, last: bool) -> Sheet:
        """Guided pictures of the teacher above those of the deployed student; at last, below
        them, the student's in fewer and more steps than it was taught."""
        return self._sheet.draw(model, rows=None if last else 1)
