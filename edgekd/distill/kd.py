"""Knowledge distillation on noisy images: task, output, feature and attention terms."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.distill.batches import Batch, Batches
from edgekd.distill.lesson import Plain
from edgekd.distill.objective import Nets, Objective
from edgekd.distill.projections import drop_projections
from edgekd.distill.sampling import Sheet
from edgekd.distill.setup import PhaseSetup
from edgekd.distill.sources import Sources
from edgekd.distill.validation import Validation
from edgekd.recipe_distill import DistillSection, PhaseName
from edgekd.student.arch import StudentArch
from edgekd.student.build import DrawingPlan


class NoisePrediction(Plain):
    """The student learns to predict noise, from the ground truth and from its teacher.

    Args:
        student: its U-Net with its first weights.
        accelerator: of accelerate, without mixed precision.

    Raises:
        InputError: see `get_term`.
    """

    phase: PhaseName = "kd"

    def __init__(
        self,
        section: DistillSection,
        arch: StudentArch,
        student: Any,
        sources: Sources,
        accelerator: Any,
    ) -> None:
        teacher = sources.teacher
        self.model: nn.Module = student
        self._arch, self._setup = arch, PhaseSetup.of(section, "kd", sources, accelerator)
        # Batches are made on the CPU.
        schedule = self._setup.schedule.to(torch.device("cpu"))
        made = (teacher.info, teacher.vae.config, schedule)
        self._batches = Batches(sources.train, *made, window=section.shuffle_window)
        held_out = Batches(sources.validation, *made)
        fixed = held_out.validation(section.validation_samples, section.batch_size)
        self._validation = Validation(fixed, teacher.unet, self._setup.autocast)
        session = DrawingPlan(teacher.scheduler, section.sample_steps, section.guidance_scale)
        self._sheet = self._setup.sheet(session, session)
        # Before a checkpoint is loaded: the terms' scales follow from the first weights.
        # One sample at a time: batches may have another size when the run goes on elsewhere.
        single = _one_by_one(held_out, section.validation_samples)
        self._balance = self._objective(student).calibrated(single)
        self._attached: Objective | None = None

    @contextlib.contextmanager
    def attached(self, wrapped: nn.Module, average: nn.Module) -> Iterator[None]:
        """See `Lesson`."""
        prepared = self._setup.prepared(
            self._setup.sources.teacher.unet, self.model, average=average
        )
        with self._objective(wrapped) as self._attached, prepared:
            yield

    def _objective(self, model: nn.Module) -> Objective:
        setup = self._setup
        nets = Nets(model, setup.sources.teacher.unet, self._arch)
        return Objective(nets, setup.section.losses, setup.schedule, setup.autocast)

    def weights_at(self, step: int) -> Mapping[str, float]:
        """See `Lesson`."""
        return self._balance.at(step / self._setup.section.steps)

    def terms(self, step: int, update: int, micro: int) -> dict[str, Tensor]:
        """See `Lesson`."""
        assert self._attached is not None, "call it in `attached`"
        return self._attached.terms(self.batch(step, micro))

    def batch(self, step: int, micro: int) -> Batch:
        """What this process's micro-batch is made of, on its device."""
        setup, section = self._setup, self._setup.section
        positions = setup.positions(step, micro)
        batch = self._batches.training(section.seed, positions, setup.plan, section.text_dropout)
        return batch.to(setup.device)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """See `Validation.measure`."""
        return self._validation.measure(model)

    def describe(self, losses: Mapping[str, float]) -> str:
        """See `Lesson`."""
        return (
            f"validation loss {losses['validation_task']:.4f}, "
            f"distance to the teacher {losses['validation_output']:.4f}"
        )

    def draw(self, model: nn.Module, last: bool) -> Sheet:
        """The teacher's pictures above the student's."""
        del last
        return self._sheet.draw(model)

    def result(self, average: nn.Module) -> Any:
        """The U-Net without the projections that a loss may have given it."""
        drop_projections(average)
        return average


def _one_by_one(batches: Batches, count: int) -> Iterator[Batch]:
    """Validation samples in batches of their own, made where they are asked for."""
    yield from batches.validation(count, 1)
