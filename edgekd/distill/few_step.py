"""Few-step distillation by trajectory matching.

A student of n steps learns to end each of its steps where the teacher's guided trajectory passes
(Zhou et al. 2024, "Simple and Fast Distillation of Diffusion Models", arXiv 2409.19681,
algorithm 1): it starts an interval from its own latents, not from the teacher's, so that it
learns to correct what it did before. Its guidance is the trajectory's: it needs none of its own,
unless the recipe keeps it; then its steps are guided as its teacher's were.

Shapes: B batch, [B, C, h, w] latents, n steps of the student.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.artifacts import Trajectories
from edgekd.distill.batches import Latents
from edgekd.distill.conditions import caption_conditions, empty_conditions
from edgekd.distill.guidance import guided_prediction
from edgekd.distill.objective import predict
from edgekd.distill.setup import FewStepLesson
from edgekd.distill.solver import student_timesteps
from edgekd.distill.sources import Sources
from edgekd.distill.trajectories import KeptTrajectories
from edgekd.recipe_distill import DistillSection
from edgekd.training.draws import sample_indices

# Below it the distance is that of squares. Of latents whose standard deviation is about 1.
SMOOTHED = 0.01


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

    @classmethod
    def load(cls, kept: Trajectories) -> Drawn:
        """Finished trajectories."""
        return cls(*(KeptTrajectories.load(kept, split) for split in ("train", "validation")))


class TrajectoryMatching(FewStepLesson):
    """The student learns to draw in n steps. One update for each of them.

    Args:
        student: its U-Net with its first weights.
        accelerator: of accelerate, without mixed precision.

    Raises:
        InputError: see `student_timesteps`.
    """

    def __init__(
        self,
        section: DistillSection,
        student: Any,
        sources: Sources,
        drawn: Drawn,
        accelerator: Any,
    ) -> None:
        super().__init__(section, student, sources, accelerator)
        self.updates, self._drawn = section.few_step.student_steps, drawn
        self._timesteps = student_timesteps(self._setup.schedule.timesteps, self.updates)
        self._latents: dict[int, Tensor] = {}

    @contextlib.contextmanager
    def attached(self, wrapped: nn.Module, average: nn.Module) -> Iterator[None]:
        """See `Lesson`."""
        self._wrapped = wrapped
        with self._setup.prepared(self.model, average=average):
            yield

    def weights_at(self, step: int) -> Mapping[str, float]:
        """See `Lesson`."""
        return {"trajectory": 1.0}

    def terms(self, step: int, update: int, micro: int) -> dict[str, Tensor]:
        """See `Lesson`: the student's step `update` of the step's trajectories."""
        setup, train = self._setup, self._drawn.train
        indices = sample_indices(setup.section.seed, setup.positions(step, micro), len(train))
        states = train.states(indices).to(setup.device)
        latents = states[:, 0] if update == 0 else self._latents[micro]
        moved = self._step(self._wrapped, latents, update, setup.sources.train, train.rows(indices))
        self._latents[micro] = moved.detach()
        return {"trajectory": pseudo_huber(moved, states[:, update + 1])}

    def _step(
        self, unet: nn.Module, latents: Tensor, index: int, captions: Latents, rows: Tensor
    ) -> Tensor:
        """The student's step `index`, [B, C, h, w] to [B, C, h, w]."""
        setup, timestep = self._setup, self._timesteps[index]
        following = [*self._timesteps[1:], -1][index]
        sources = setup.sources
        said = caption_conditions(sources.teacher, captions, rows, sources.latent_size)
        batch = said.batch(latents, torch.full((len(latents),), timestep, device=latents.device))
        scale = setup.section.kept_guidance
        if scale > 1:
            empty = empty_conditions(sources.teacher, captions, len(rows), sources.latent_size)
            prediction = guided_prediction(unet, batch, empty, scale, setup.autocast)
        else:
            prediction = predict(unet, batch, setup.autocast).float()
        return setup.schedule.ddim_step(latents, prediction, timestep, following)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Distance of the student's latents from the teacher's on held-out captions.

        Returns:
            `validation_picture`: mean squared error of the last latents; `validation_step`: mean
            over all borders of steps.
        """
        held_out, batch_size = self._drawn.validation, self._settings.batch_size
        sums, elements = torch.zeros(len(self._timesteps), dtype=torch.float64), 0
        for first in range(0, len(held_out), batch_size):
            indices = torch.arange(first, min(first + batch_size, len(held_out)))
            states = held_out.states(indices).to(self._setup.device)
            latents, rows = states[:, 0], held_out.rows(indices)
            elements += latents.numel()
            for index in range(len(self._timesteps)):
                captions = self._setup.sources.validation
                latents = self._step(model, latents, index, captions, rows)
                # Summed in double: the result must not depend on how samples are cut into batches.
                error = (latents - states[:, index + 1]).cpu()
                sums[index] += error.double().square().sum()
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
