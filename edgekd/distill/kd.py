"""Knowledge distillation on noisy images: task, output, feature and attention terms."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.diffusion.noise_schedule import read_schedule
from edgekd.distill.batches import Batches
from edgekd.distill.lesson import Stateless
from edgekd.distill.objective import Nets, Objective
from edgekd.distill.sampling import Pixels, SampleSheet, Session, choose_prompts
from edgekd.distill.sources import Sources
from edgekd.distill.terms.registry import weighted_terms
from edgekd.distill.validation import Validation
from edgekd.recipe_distill import DistillSection
from edgekd.student.arch import StudentArch
from edgekd.training.draws import BatchPlan, step_positions
from edgekd.training.precision import autocast_dtype, training_attention


class NoisePrediction(Stateless):
    """The student learns to predict noise, from the ground truth and from its teacher.

    Args:
        student: its U-Net with its first weights.
        accelerator: of accelerate, without mixed precision.

    Raises:
        InputError: see `get_term`.
    """

    name = "kd"
    field = "distill"
    updates = 1

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
        self._section, self._arch, self._teacher = section, arch, teacher
        self._rank: int = accelerator.process_index
        self._plan = BatchPlan(
            section.batch_size, section.gradient_accumulation, accelerator.num_processes
        )
        self._autocast = autocast_dtype(section.precision, accelerator.device)
        self._schedule = read_schedule(teacher.scheduler)
        made = (teacher.info, teacher.vae.config, self._schedule)
        self._batches = Batches(sources.train, *made)
        held_out = Batches(sources.validation, *made)
        fixed = held_out.validation(section.validation_samples, section.batch_size)
        self._validation = Validation(fixed, teacher.unet, self._autocast)
        session = Session(teacher.scheduler, section.sample_steps, section.guidance_scale)
        self._sheet = SampleSheet(
            teacher,
            session,
            session,
            choose_prompts(section.sample_prompts, sources.validation),
            sources.latent_size,
            section.seed,
        )
        # Before a checkpoint is loaded: the terms' scales follow from the first weights.
        self._balance = self._objective(student).calibrated(fixed)
        self._attached: Objective | None = None

    @contextlib.contextmanager
    def attached(self, wrapped: nn.Module, average: nn.Module) -> Iterator[None]:
        """See `Lesson`."""
        device = self._teacher.device
        with contextlib.ExitStack() as stack:
            self._attached = stack.enter_context(self._objective(wrapped))
            for unet in (self._teacher.unet, self.model, average):
                stack.enter_context(training_attention(unet, device, self._autocast))
            yield

    def _objective(self, model: nn.Module) -> Objective:
        nets = Nets(model, self._teacher.unet, self._arch)
        schedule = self._schedule.to(self._teacher.device)
        return Objective(nets, self._section.losses, schedule, self._autocast)

    def weights_at(self, step: int) -> Mapping[str, float]:
        """See `Lesson`."""
        return self._balance.at(step / self._section.steps)

    def terms(self, step: int, update: int, micro: int) -> dict[str, Tensor]:
        """See `Lesson`."""
        assert self._attached is not None, "call it in `attached`"
        positions = step_positions(step, micro, self._rank, self._plan)
        batch = self._batches.training(
            self._section.seed, positions, self._plan, self._section.text_dropout
        )
        return self._attached.terms(batch.to(self._teacher.device))

    def validate(self, model: nn.Module) -> dict[str, float]:
        """See `Validation.measure`."""
        return self._validation.measure(model)

    def describe(self, losses: Mapping[str, float]) -> str:
        """See `Lesson`."""
        return (
            f"validation loss {losses['validation_task']:.4f}, "
            f"distance to the teacher {losses['validation_output']:.4f}"
        )

    def draw(self, model: nn.Module) -> Pixels:
        """The teacher's pictures above the student's."""
        return self._sheet.draw(model)


def unused_parameters(section: DistillSection) -> bool:
    """Whether some of a student's weights get no gradient: features alone leave the last layers."""
    return not any(term.uses_prediction for term, _ in weighted_terms(section.losses))


def random_student(config: dict[str, Any], seed: int, device: torch.device) -> Any:
    """A U-Net with random weights of a seed."""
    from edgekd.libraries import diffusers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = diffusers.UNet2DConditionModel.from_config(config)
    return student.to(device)
