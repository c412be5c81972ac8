"""Few-step distillation by trajectory matching.

A student of n steps learns to end each of its steps where the teacher's guided trajectory passes
(Zhou et al. 2024, "Simple and Fast Distillation of Diffusion Models", arXiv 2409.19681,
algorithm 1): it starts an interval from its own latents, not from the teacher's, so that it
learns to correct what it did before. Its guidance is the trajectory's: it needs none of its own.

Shapes: B batch, [B, C, h, w] latents, n steps of the student.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.diffusion.noise_schedule import read_schedule
from edgekd.distill.batches import Batch, Latents
from edgekd.distill.conditions import caption_conditions
from edgekd.distill.objective import predict
from edgekd.distill.sampling import Pixels, SampleSheet, Session, choose_prompts
from edgekd.distill.solver import deployed_scheduler, student_timesteps
from edgekd.distill.sources import Sources
from edgekd.distill.trajectories import KeptTrajectories
from edgekd.recipe import DistillSection
from edgekd.training.draws import BatchPlan, sample_indices, step_positions
from edgekd.training.precision import autocast_dtype, training_attention

# Below it the distance is that of squares. Of latents whose standard deviation is about 1.
SMOOTHED = 0.01
# Steps of the teacher on the sample sheets.
_TEACHER_STEPS = 25


def pseudo_huber(latents: Tensor, target: Tensor, smoothed: float = SMOOTHED) -> Tensor:
    """Mean of `sqrt(r^2 + c^2) - c` over all elements (Song and Dhariwal 2023, equation 7).

    Almost the absolute error, which does not blur as the squared one does, with a gradient that
    does not jump at 0.

    Args:
        target: [B, C, h, w]; no gradient goes into it.

    Returns:
        scalar.
    """
    error = latents.float() - target.detach().float()
    return ((error.square() + smoothed**2).sqrt() - smoothed).mean()


@dataclass(frozen=True)
class Drawn:
    """Trajectories of both splits."""

    train: KeptTrajectories
    validation: KeptTrajectories


class TrajectoryMatching:
    """The student learns to draw in n steps without guidance. One update for each of them.

    Args:
        student: its U-Net with its first weights.
        accelerator: of accelerate, without mixed precision.

    Raises:
        InputError: see `student_timesteps`.
    """

    name = "few_step"
    field = "distill.few_step"

    def __init__(
        self,
        section: DistillSection,
        student: Any,
        sources: Sources,
        drawn: Drawn,
        accelerator: Any,
    ) -> None:
        teacher, settings = sources.teacher, section.few_step
        self.model: nn.Module = student
        self.updates = settings.student_steps
        self._section, self._sources, self._drawn = section, sources, drawn
        self._rank: int = accelerator.process_index
        self._plan = BatchPlan(
            settings.batch_size, settings.gradient_accumulation, accelerator.num_processes
        )
        self._autocast = autocast_dtype(section.precision, accelerator.device)
        self._schedule = read_schedule(teacher.scheduler).to(accelerator.device)
        self._timesteps = student_timesteps(self._schedule.timesteps, settings.student_steps)
        self._sheet = SampleSheet(
            teacher,
            Session(teacher.scheduler, _TEACHER_STEPS, settings.guidance_scale),
            Session(deployed_scheduler(teacher.scheduler), settings.student_steps, 1.0),
            choose_prompts(section.sample_prompts, sources.validation),
            sources.latent_size,
            section.seed,
        )
        self._wrapped: nn.Module = student
        self._latents: dict[int, Tensor] = {}

    @contextlib.contextmanager
    def attached(self, wrapped: nn.Module, average: nn.Module) -> Iterator[None]:
        """See `Lesson`."""
        self._wrapped = wrapped
        device = self._sources.teacher.device
        with contextlib.ExitStack() as stack:
            for unet in (self.model, average):
                stack.enter_context(training_attention(unet, device, self._autocast))
            yield

    def weights_at(self, step: int) -> Mapping[str, float]:
        """See `Lesson`."""
        return {"trajectory": 1.0}

    def terms(self, step: int, update: int, micro: int) -> dict[str, Tensor]:
        """See `Lesson`: the student's step `update` of the step's trajectories."""
        positions = step_positions(step, micro, self._rank, self._plan)
        train = self._drawn.train
        indices = sample_indices(self._section.seed, positions, len(train))
        states = train.states(indices).to(self._sources.teacher.device)
        latents = states[:, 0] if update == 0 else self._latents[micro]
        moved = self._step(self._wrapped, latents, update, self._sources.train, train.rows(indices))
        self._latents[micro] = moved.detach()
        return {"trajectory": pseudo_huber(moved, states[:, update + 1])}

    def _step(
        self, unet: nn.Module, latents: Tensor, index: int, captions: Latents, rows: Tensor
    ) -> Tensor:
        """The student's step `index`, [B, C, h, w] to [B, C, h, w]."""
        timestep = self._timesteps[index]
        following = [*self._timesteps[1:], -1][index]
        said = caption_conditions(self._sources.teacher, captions, rows, self._sources.latent_size)
        batch = Batch(
            latents,
            torch.full((len(latents),), timestep, device=latents.device),
            said.encoder_hidden_states,
            said.added,
            latents,
        )
        prediction = predict(unet, batch, self._autocast).float()
        return self._schedule.ddim_step(latents, prediction, timestep, following)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Distance of the student's latents from the teacher's on held-out captions.

        Returns:
            `validation_picture`: mean squared error of the last latents; `validation_step`: mean
            over all borders of steps.
        """
        held_out, batch_size = self._drawn.validation, self._section.few_step.batch_size
        sums, elements = torch.zeros(len(self._timesteps), dtype=torch.float64), 0
        for first in range(0, len(held_out), batch_size):
            indices = torch.arange(first, min(first + batch_size, len(held_out)))
            states = held_out.states(indices).to(self._sources.teacher.device)
            latents, rows = states[:, 0], held_out.rows(indices)
            elements += latents.numel()
            for index in range(len(self._timesteps)):
                latents = self._step(model, latents, index, self._sources.validation, rows)
                # Summed in double: the result must not depend on how samples are cut into batches.
                sums[index] += (latents - states[:, index + 1]).double().square().sum().cpu()
        errors = sums / elements
        return {
            "validation_picture": float(errors[-1]),
            "validation_step": float(errors.mean()),
        }

    def describe(self, losses: Mapping[str, float]) -> str:
        """See `Lesson`."""
        steps = len(self._timesteps)
        return (
            f"squared distance of {steps}-step pictures to the teacher's "
            f"{losses['validation_picture']:.4f}"
        )

    def draw(self, model: nn.Module) -> Pixels:
        """The teacher's pictures above the student's."""
        return self._sheet.draw(model)
