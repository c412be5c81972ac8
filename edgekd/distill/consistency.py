"""Few-step distillation by consistency: from neighbouring noise levels to one and the same picture.

Latent consistency distillation (Luo et al. 2023, "Latent Consistency Models", arXiv 2310.04378,
algorithm 1) on noisy versions of cached images. The student is told the guidance scale and
draws in one pass at any of the recipe's range.

The target's weights are the loop's own average: in the paper, too, one average is both the
target and the result. So there is no third copy, and nothing further to save. With
`ema_decay: 0` the target is the student itself.

Shapes: B batch, [B, C, h, w] latents, [B] timesteps and guidance scales.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.diffusion.noise_schedule import NoiseSchedule
from edgekd.distill.batches import Batch, Batches
from edgekd.distill.conditions import caption_conditions, without_captions
from edgekd.distill.few_step import pseudo_huber
from edgekd.distill.guidance import guidance_embedding, guided_prediction, scales_at
from edgekd.distill.objective import predict
from edgekd.distill.setup import FewStepLesson
from edgekd.distill.solver import TIMESTEP_SCALING, consistency_skip
from edgekd.distill.sources import Sources
from edgekd.distill.trajectories import TrajectoryDrawer
from edgekd.recipe_distill import DistillSection
from edgekd.training.draws import generator

# Of the pseudo-Huber distance, as LCM's authors chose it.
_SMOOTHED = 0.001
# Standard deviation of the data in the boundary condition.
_SIGMA_DATA = 0.5


def consistency_scalings(timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """`c_skip = s^2 / (t^2 + s^2)` and `c_out = t / sqrt(t^2 + s^2)` of scaled timesteps [B].

    They make the student the identity at timestep 0 (Song et al. 2023, "Consistency Models",
    appendix C; Luo et al. 2023, section 4.1).

    Returns:
        both [B, 1, 1, 1].
    """
    scaled = timesteps.float()[:, None, None, None] * TIMESTEP_SCALING
    norm = scaled.square() + _SIGMA_DATA**2
    return _SIGMA_DATA**2 / norm, scaled / norm.sqrt()


def jump(schedule: NoiseSchedule, latents: Tensor, prediction: Tensor, timesteps: Tensor) -> Tensor:
    """Where the student jumps to, `c_skip x + c_out x_0` (Luo et al. 2023, equation 9)."""
    skip, out = consistency_scalings(timesteps)
    picture, _ = schedule.predicted(latents, prediction, timesteps)
    return skip * latents + out * picture


def drawn_scales(seed: int, positions: Sequence[int], bounds: tuple[float, float]) -> Tensor:
    """Guidance scales for stream positions, uniform in the bounds, [B]."""
    low, high = bounds
    drawn = [torch.rand((), generator=generator(seed, "guidance", p)) for p in positions]
    return low + (high - low) * torch.stack(drawn)


@dataclass(frozen=True)
class TrajectoryPoints:
    """Two points of one guided trajectory, as the student is to see them: later is noisier."""

    later: Batch
    earlier: Batch


class ConsistencyDistillation(FewStepLesson):
    """The student learns to jump to the same picture from two points of a trajectory.

    Args:
        student: its U-Net with its first weights, conditioned on guidance.
        accelerator: of accelerate, without mixed precision.

    Raises:
        InputError: see `consistency_skip`.
    """

    def __init__(
        self, section: DistillSection, student: Any, sources: Sources, accelerator: Any
    ) -> None:
        super().__init__(section, student, sources, accelerator)
        teacher = sources.teacher
        self._skip = consistency_skip(self._setup.schedule.timesteps)
        # Batches are made on the CPU.
        facts = (teacher.info, teacher.vae.config, self._setup.schedule.to(torch.device("cpu")))
        window = section.shuffle_window
        self._batches = Batches(sources.train, *facts, skip=self._skip, window=window)
        self._held_out: list[Batch] = []
        self._average = self.model

    @contextlib.contextmanager
    def attached(self, wrapped: nn.Module, average: nn.Module) -> Iterator[None]:
        """See `Lesson`."""
        self._wrapped, self._average = wrapped, average
        with self._setup.prepared(self._setup.sources.teacher.unet, self.model, average):
            yield

    @property
    def beside(self) -> Mapping[str, nn.Module]:
        """See `Lesson`."""
        return {"target": self._average}

    def weights_at(self, step: int) -> Mapping[str, float]:
        """See `Lesson`."""
        return {"consistency": 1.0}

    def terms(self, step: int, update: int, micro: int) -> dict[str, Tensor]:
        """See `Lesson`."""
        setup, settings = self._setup, self._settings
        seed, positions = setup.section.seed, setup.positions(step, micro)
        batch = self._batches.training(seed, positions, setup.plan, dropout=0.0)
        scales = drawn_scales(seed, positions, settings.guidance_range)
        pair = self._pair(batch, scales)
        with torch.no_grad():
            target = self._jump(self._average, pair.earlier)
        return {
            "consistency": pseudo_huber(self._jump(self._wrapped, pair.later), target, _SMOOTHED)
        }

    @torch.no_grad()
    def _pair(self, batch: Batch, scales: Tensor) -> TrajectoryPoints:
        """A batch, and what one DDIM step of the guided teacher makes of it (equation 13)."""
        setup, schedule = self._setup, self._setup.schedule
        batch, scales = batch.to(setup.device), scales.to(setup.device)
        prediction = guided_prediction(
            setup.sources.teacher.unet,
            batch,
            without_captions(batch, setup.sources.train),
            scales_at(batch.timesteps, scales, self._least_guided),
            setup.autocast,
        )
        picture, noise = schedule.predicted(batch.noisy_latents, prediction, batch.timesteps)
        # The first of the timesteps has none before it but 0, where the student is the identity.
        before = (batch.timesteps - self._skip).clamp(min=0)
        later = replace(batch, timestep_cond=guidance_embedding(scales))
        latents = schedule.add_noise(picture, noise, before)
        return TrajectoryPoints(later, replace(later, noisy_latents=latents, timesteps=before))

    def _jump(self, unet: nn.Module, batch: Batch) -> Tensor:
        prediction = predict(unet, batch, self._setup.autocast).float()
        return jump(self._setup.schedule, batch.noisy_latents, prediction, batch.timesteps)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """How far a model's jumps from noise alone end from the teacher's pictures.

        The loss itself says little: it is low for the teacher, whose jumps agree and are blurred.

        Returns:
            `validation_picture`: mean squared error of latents, at the recipe's guidance scale.
        """
        if not self._held_out:
            self._held_out = list(self._draw_held_out())
        squares, elements = torch.zeros((), dtype=torch.float64), 0
        for batch in self._held_out:
            error = (self._jump(model, batch) - batch.target).cpu()
            # Summed in double: the result must not depend on how samples are cut into batches.
            squares += error.double().square().sum()
            elements += error.numel()
        return {"validation_picture": float(squares) / elements}

    def _draw_held_out(self) -> Iterator[Batch]:
        """Noise and held-out captions; the target is what the guided teacher draws from them."""
        setup, settings, sources = self._setup, self._settings, self._setup.sources
        at_once = settings.model_copy(update={"student_steps": 1})
        section = setup.section.model_copy(update={"few_step": at_once})
        size, captions = sources.latent_size, sources.validation
        drawer = TrajectoryDrawer(section, sources.teacher, captions, "validation", size)
        for first in range(0, settings.validation_samples, settings.batch_size):
            last = min(first + settings.batch_size, settings.validation_samples)
            drawn = drawer.draw(range(first, last))
            states = drawn["states"].float().to(setup.device)
            timesteps = torch.full((len(states),), setup.schedule.timesteps - 1)
            said = caption_conditions(sources.teacher, captions, drawn["rows"], size)
            told = guidance_embedding(torch.full((len(states),), settings.guidance_scale))
            batch = said.batch(states[:, 0], timesteps)
            yield replace(batch, target=states[:, 1], timestep_cond=told).to(setup.device)

    def describe(self, losses: Mapping[str, float]) -> str:
        """See `Lesson`."""
        return (
            "squared distance of pictures from one jump to the teacher's "
            f"{losses['validation_picture']:.4f}"
        )
