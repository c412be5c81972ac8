"""How far a student that nobody trained is from its teacher: the calibration set and the errors.

Shapes: N calibration inputs, [N, C, h, w] latents, [N, L, D] text embeddings, K noise levels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from pydantic import Field
from torch import Tensor

from edgekd.data.cache import CachedBatch
from edgekd.diffusion.encode import added_conditions, sample_latents
from edgekd.diffusion.load import Teacher
from edgekd.diffusion.noise_schedule import NoiseSchedule, read_schedule
from edgekd.diffusion.taps import output_tensor
from edgekd.errors import InputError
from edgekd.files import hash_value
from edgekd.schema import Section
from edgekd.student.importance import Importance, taylor_importance
from edgekd.training.draws import generator

WORST_ERROR = 1e4


class CalibrationSettings(Section):
    """Size of the calibration set: one student costs `samples` calls of its U-Net."""

    samples: int = Field(16, ge=1, description="inputs, each at one timestep")
    timesteps: int = Field(8, ge=1, description="noise levels, spread evenly over the schedule")
    batch_size: int = Field(16, ge=1, description="inputs of one forward pass")
    seed: int = Field(0, description="of the samples and of their noise")


class CaptionedLatents(Protocol):
    """One split of a teacher cache, as `edgekd.data.cache.CachedLatents`."""

    def __len__(self) -> int: ...

    @property
    def buckets(self) -> Sequence[range]:
        """Samples of one shape."""

    def batch(self, indices: Tensor) -> CachedBatch:
        """Moments and text embeddings of samples."""


@dataclass(frozen=True)
class UNetInputs:
    """Inputs of one forward pass; `added` is SDXL's added conditions."""

    latents: Tensor
    timesteps: Tensor
    encoder_hidden_states: Tensor
    added: dict[str, Tensor] | None

    def predict(self, unet: Any) -> Tensor:
        """What a U-Net predicts, fp32 [N, C, h, w]."""
        like = next(unet.parameters())
        added = self.added
        if added is not None:
            added = {name: value.to(like) for name, value in added.items()}
        prediction = unet(
            self.latents.to(like),
            self.timesteps.to(like.device),
            self.encoder_hidden_states.to(like),
            added_cond_kwargs=added,
        )
        return output_tensor(prediction).float()

    def part(self, first: int, last: int) -> UNetInputs:
        """Rows `first` to `last` (excluded)."""
        added = self.added
        if added is not None:
            added = {name: value[first:last] for name, value in added.items()}
        return UNetInputs(
            self.latents[first:last],
            self.timesteps[first:last],
            self.encoder_hidden_states[first:last],
            added,
        )


@dataclass(frozen=True)
class Calibration:
    """A fixed calibration set.

    Attributes:
        key: hash of all that it follows from, the teacher among it.
        targets: [N, C, h, w] what a perfect U-Net predicts.
        schedule: the teacher's, on the CPU.
        batch_size: inputs of one forward pass.
    """

    key: str
    inputs: UNetInputs
    targets: Tensor
    schedule: NoiseSchedule
    batch_size: int

    def batches(self) -> Iterator[tuple[UNetInputs, Tensor]]:
        """Inputs with their targets in order, some at a time."""
        for first in range(0, len(self.targets), self.batch_size):
            last = first + self.batch_size
            yield self.inputs.part(first, last), self.targets[first:last]

    @torch.no_grad()
    def predict(self, unet: Any) -> Tensor:
        """What a U-Net predicts for all inputs, fp32 [N, C, h, w] on the CPU."""
        return torch.cat([inputs.predict(unet).cpu() for inputs, _ in self.batches()])

    def importance(self, unet: Any) -> Importance:
        """Of the teacher's weights for its own task: channels of narrower students go by it."""

        def loss(batch: tuple[UNetInputs, Tensor]) -> Tensor:
            inputs, targets = batch
            prediction = inputs.predict(unet)
            return (prediction - targets.to(prediction)).square().mean()

        return taylor_importance(unet, loss, self.batches())

    def damage(self, student: Tensor, teacher: Tensor) -> float:
        """How far predictions [N, C, h, w] are from the teacher's; see `velocity_damage`."""
        timesteps = self.inputs.timesteps
        predictions = (self._velocity(student), self._velocity(teacher))
        return velocity_damage(*predictions, timesteps)

    def _velocity(self, prediction: Tensor) -> Tensor:
        """The same prediction as v = sqrt(a_t) noise - sqrt(1 - a_t) x_0."""
        latents, timesteps = self.inputs.latents, self.inputs.timesteps
        picture, noise = self.schedule.predicted(latents, prediction, timesteps)
        target = NoiseSchedule(self.schedule.alphas_cumprod, "v_prediction").target
        return target(picture, noise, timesteps)


def make_calibration(
    teacher: Teacher, latents: CaptionedLatents, settings: CalibrationSettings, data_key: str
) -> Calibration:
    """Noisy latents of cached samples with their captions, at stratified timesteps.

    Level k of K is the middle of the k-th of K equal parts of the schedule. Samples are drawn
    without repetition, as far as there are enough, and dealt to the levels in turn, so that
    every level has the same number of them (or one more).

    Args:
        data_key: hash of what the latents follow from, the teacher's weights among it.

    Raises:
        InputError: no samples, or more noise levels than samples.
    """
    if len(latents) == 0:
        raise InputError("the calibration set needs a sample of the training split", "0")
    if settings.timesteps > settings.samples:
        raise InputError(
            "`timesteps <= samples` must hold for the calibration set",
            f"timesteps={settings.timesteps}, samples={settings.samples}",
        )
    bucket = max(latents.buckets, key=len)
    order = torch.randperm(len(bucket), generator=generator(settings.seed, "calibration", 0))
    rows = latents.batch(bucket.start + order[torch.arange(settings.samples) % len(bucket)])
    source = generator(settings.seed, "calibration", 1)
    mean, logvar = rows.mean.float(), rows.logvar.float()
    clean = sample_latents(mean, logvar, dict(teacher.vae.config), source)
    noise = torch.randn(clean.shape, generator=source)
    schedule = read_schedule(teacher.scheduler)
    timesteps = _levels(settings, schedule.timesteps)
    inputs = UNetInputs(
        schedule.add_noise(clean, noise, timesteps),
        timesteps,
        rows.encoder_hidden_states.float(),
        added_conditions(teacher.info, rows.pooled, rows.time_ids),
    )
    key = hash_value([data_key, settings.model_dump()])
    targets = schedule.target(clean, noise, timesteps)
    return Calibration(key, inputs, targets, schedule, settings.batch_size)


def _levels(settings: CalibrationSettings, timesteps: int) -> Tensor:
    """A timestep for each sample [N]."""
    count = settings.timesteps
    middles = (torch.arange(count) * 2 + 1) * timesteps // (2 * count)
    return middles[torch.arange(settings.samples) % count]


def relative_error(student: Tensor, teacher: Tensor) -> float:
    """`||s - t||^2 / ||t||^2`: the error's power over that of the teacher's prediction.

    0: the same; 1: as bad as a student that predicts nothing.

    Args:
        student, teacher: of one shape.
    """
    error = (student.double() - teacher.double()).square().sum()
    return float(error / teacher.double().square().sum())


def velocity_damage(student: Tensor, teacher: Tensor, timesteps: Tensor) -> float:
    """`mean_k log(1 + ||v_s - v_t||^2 / ||v_t||^2)` over the noise levels k.

    The error is taken of v (Salimans and Ho 2022, appendix D), which is of one size at all noise
    levels: of the noise itself a student predicts most at large t by copying its input, and its
    error there, where students of few steps work, would count for nothing. The logarithm keeps
    one level, or one removal that breaks everything, from outweighing all others.

    Args:
        student, teacher: [N, C, h, w] predictions as v.
        timesteps: [N].
    """
    levels = [timesteps == level for level in torch.unique(timesteps)]
    errors = [relative_error(student[rows], teacher[rows]) for rows in levels]
    # Not `min`: a student whose numbers overflow is as bad as can be.
    bounded = (error if error < WORST_ERROR else WORST_ERROR for error in errors)
    return sum(math.log1p(error) for error in bounded) / len(errors)
