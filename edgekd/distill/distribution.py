"""Few-step distillation by distribution matching, with the two time scales of DMD2 and no GAN.

The student draws pictures of cached captions from noise; a second network, the fake score, learns
to denoise them. Where the guided teacher denoises a picture otherwise than the fake score does, the
student's pictures are rarer or more frequent than the teacher's, and it moves along the
difference (Yin et al. 2024, "One-step Diffusion with Distribution Matching Distillation",
arXiv 2311.18828, equation 7). The fake score has `fake_updates` updates for each of the student,
and the student's inputs are its own earlier steps, as in use (Yin et al. 2024, "Improved
Distribution Matching Distillation", arXiv 2405.14867, sections 4.2 and 4.4).

Shapes: B batch, [B, C, h, w] latents, n steps of the student.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.distill.batches import Batch, Latents
from edgekd.distill.conditions import TextConditions, caption_conditions, empty_conditions
from edgekd.distill.consistency import jump
from edgekd.distill.fake_score import FakeScore
from edgekd.distill.guidance import guided_prediction, scales_at
from edgekd.distill.objective import predict
from edgekd.distill.setup import FewStepLesson
from edgekd.distill.solver import consistency_skip, consistency_timesteps
from edgekd.distill.sources import Sources
from edgekd.recipe_distill import DistillSection
from edgekd.training.draws import generator, sample_indices

# The part of the schedule on which the two scores are compared, as in DMD.
_LEAST, _LARGEST = 0.02, 0.98
# Validation is the same for every run.
_VALIDATION_SEED = 0


def matching_gradient(latents: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """Where the student's pictures should not go, [B, C, h, w].

    `(p_fake - p_real) / mean |x - p_real|`, the mean over each picture (Yin et al. 2024,
    arXiv 2311.18828, equations 7 and 8).

    Args:
        latents: x, the student's pictures.
        real, fake: what teacher and fake score denoise them to.
    """
    spread = (latents - real).abs().mean(dim=(1, 2, 3), keepdim=True)
    return (fake - real) / spread.clamp(min=1e-6)


def matching_loss(latents: Tensor, gradient: Tensor) -> Tensor:
    """A scalar whose derivative by latents is `gradient` over the number of elements."""
    target = (latents - gradient).detach()
    return 0.5 * (latents - target).square().mean()


@dataclass(frozen=True)
class Start:
    """Noise and captions that pictures are drawn from.

    Attributes:
        noise: [B, n, C, h, w] of each of the student's steps.
        renoise: [B, C, h, w], with which the picture is shown to the scores.
        timesteps: [B] at which they see it.
        said: the captions.
        empty: nothing in particular, as many times.
    """

    noise: Tensor
    renoise: Tensor
    timesteps: Tensor
    said: TextConditions
    empty: TextConditions


class DistributionMatching(FewStepLesson):
    """The student learns to draw what the guided teacher finds as likely as it does itself.

    Args:
        student: its U-Net with its first weights.
        accelerator: of accelerate, without mixed precision.

    Raises:
        InputError: see `consistency_skip`.
    """

    def __init__(
        self, section: DistillSection, student: Any, sources: Sources, accelerator: Any
    ) -> None:
        super().__init__(section, student, sources, accelerator)
        # The fake score has its own optimiser: its loss is logged and checked, no more.
        self._fake_loss = torch.zeros(())
        consistency_skip(self._setup.schedule.timesteps)
        steps = self._settings.student_steps
        self._timesteps = consistency_timesteps(sources.teacher.scheduler, steps)
        self._fake = FakeScore(self._setup, accelerator)

    @property
    def beside(self) -> Mapping[str, nn.Module]:
        """See `Lesson`."""
        return {"fake score": self._fake.unet}

    @contextlib.contextmanager
    def attached(self, wrapped: nn.Module, average: nn.Module) -> Iterator[None]:
        """See `Lesson`."""
        self._wrapped = wrapped
        unets = (self._setup.sources.teacher.unet, self._fake.unet, self.model)
        with self._setup.prepared(*unets, average=average):
            yield

    def state(self) -> dict[str, Tensor]:
        """See `Lesson`: the fake score, and what its optimiser remembers."""
        return self._fake.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See `Lesson`."""
        self._fake.restore(state)

    def weights_at(self, step: int) -> Mapping[str, float]:
        """See `Lesson`."""
        return {"distribution": 1.0, "fake_score": 0.0}

    def terms(self, step: int, update: int, micro: int) -> dict[str, Tensor]:
        """See `Lesson`. The fake score learns before the step's first micro-batch."""
        setup = self._setup
        if micro == 0:
            ratio = self._settings.fake_updates
            losses = [self._teach_fake(step, step * ratio + number) for number in range(ratio)]
            self._fake_loss = torch.stack(losses).mean()
        start = self._start(setup.positions(step, micro), "student", setup.sources.train)
        pictures = self._draw(self._wrapped, start, step % len(self._timesteps))
        with torch.no_grad():
            gradient = matching_gradient(
                pictures, self._real(pictures, start), self._denoised(pictures, start)
            )
        return {"distribution": matching_loss(pictures, gradient), "fake_score": self._fake_loss}

    def _teach_fake(self, step: int, number: int) -> Tensor:
        """Update `number` of the fake score, of as many pictures as the student's. Returns its
        loss."""
        micro_batches = range(self._setup.plan.accumulation)
        return self._fake.update([self._fake_batch(number, micro) for micro in micro_batches], step)

    @torch.no_grad()
    def _fake_batch(self, number: int, micro: int) -> Batch:
        """Pictures of the student, noisy, and what is to be predicted of them."""
        setup = self._setup
        start = self._start(setup.positions(number, micro), "fake", setup.sources.train)
        pictures = self._draw(self._wrapped, start, number % len(self._timesteps))
        target = setup.schedule.target(pictures, start.renoise, start.timesteps)
        return replace(self._noisy(pictures, start), target=target)

    def _draw(self, unet: nn.Module, start: Start, last: int) -> Tensor:
        """The student's pictures after its steps up to `last`; gradients into that one alone."""
        setup, schedule = self._setup, self._setup.schedule
        pictures = torch.zeros_like(start.renoise)
        for index, timestep in enumerate(self._timesteps[: last + 1]):
            timesteps = torch.full((len(pictures),), timestep, device=pictures.device)
            noise = start.noise[:, index]
            # The first step begins at noise alone, as samplers do.
            latents = schedule.add_noise(pictures, noise, timesteps) if index else noise
            with torch.set_grad_enabled(index == last and torch.is_grad_enabled()):
                prediction = predict(unet, start.said.batch(latents, timesteps), setup.autocast)
                pictures = jump(schedule, latents, prediction.float(), timesteps)
        return pictures

    def _noisy(self, pictures: Tensor, start: Start) -> Batch:
        """Pictures as the scores see them."""
        noisy = self._setup.schedule.add_noise(pictures, start.renoise, start.timesteps)
        return start.said.batch(noisy, start.timesteps)

    def _real(self, pictures: Tensor, start: Start) -> Tensor:
        """What the guided teacher denoises pictures to."""
        setup, batch = self._setup, self._noisy(pictures, start)
        scales = scales_at(batch.timesteps, self._settings.guidance_scale, self._least_guided)
        teacher = setup.sources.teacher.unet
        prediction = guided_prediction(teacher, batch, start.empty, scales, setup.autocast)
        return setup.schedule.predicted(batch.noisy_latents, prediction, batch.timesteps)[0]

    def _denoised(self, pictures: Tensor, start: Start) -> Tensor:
        """What the fake score denoises them to."""
        setup, batch = self._setup, self._noisy(pictures, start)
        prediction = predict(self._fake.unet, batch, setup.autocast).float()
        return setup.schedule.predicted(batch.noisy_latents, prediction, batch.timesteps)[0]

    def _start(self, positions: Sequence[int], purpose: str, captions: Latents) -> Start:
        """All that is random of the pictures at stream positions."""
        seed = self._setup.section.seed
        rows = sample_indices(seed, positions, len(captions))
        sources = [generator(seed, f"distribution/{purpose}", p) for p in positions]
        least, largest = (int(f * self._setup.schedule.timesteps) for f in (_LEAST, _LARGEST))
        timesteps = [torch.randint(least, largest, (), generator=s) for s in sources]
        return self._started(rows, captions, sources, torch.stack(timesteps))

    def _started(
        self, rows: Tensor, captions: Latents, sources: Sequence[torch.Generator], timesteps: Tensor
    ) -> Start:
        teacher, side = self._setup.sources.teacher, self._setup.sources.latent_size
        shape = (len(self._timesteps) + 1, teacher.info.latent_channels, side, side)
        noise = torch.stack([torch.randn(shape, generator=source) for source in sources])
        noise = noise.to(teacher.device)
        return Start(
            noise[:, :-1],
            noise[:, -1],
            timesteps.to(teacher.device),
            caption_conditions(teacher, captions, rows, side),
            empty_conditions(teacher, captions, len(rows), side),
        )

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """How far held-out pictures are from what the guided teacher denoises them to.

        Low where the teacher finds each picture likely; says nothing of how they differ.

        Returns:
            `validation_real`: mean squared distance.
        """
        settings, captions = self._settings, self._setup.sources.validation
        count = min(settings.validation_samples, len(captions))
        levels = self._setup.schedule.timesteps
        squares, elements = torch.zeros((), dtype=torch.float64), 0
        for first in range(0, count, settings.batch_size):
            numbers = torch.arange(first, min(first + settings.batch_size, count))
            sources = [generator(_VALIDATION_SEED, "distribution", i) for i in numbers.tolist()]
            # The middle levels, one from each of equal parts.
            timesteps = levels // 4 + (2 * numbers + 1) * levels // (4 * count)
            start = self._started(numbers, captions, sources, timesteps)
            pictures = self._draw(model, start, len(self._timesteps) - 1)
            apart = (pictures - self._real(pictures, start)).cpu()
            # Summed in double: the result must not depend on how samples are cut into batches.
            squares += apart.double().square().sum()
            elements += apart.numel()
        return {"validation_real": float(squares) / elements}

    def describe(self, losses: Mapping[str, float]) -> str:
        """See `Lesson`."""
        return f"squared distance of pictures to the teacher's view {losses['validation_real']:.4f}"
