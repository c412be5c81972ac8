"""Batches: cached moments and text embeddings turned into what the U-Net takes.

Shapes: B batch, [B, C, h, w] latents, [B, L, D] text embeddings, [B, P] pooled embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from edgekd.diffusion.encode import added_conditions, sample_latents
from edgekd.diffusion.noise_schedule import NoiseSchedule
from edgekd.diffusion.validate import TeacherInfo
from edgekd.training.draws import BatchPlan, Draw, bucketed_indices, draw, generator, step_choice

# Validation is the same for every run, so that runs with different seeds can be compared.
_VALIDATION_SEED = 0


class TeacherBatch(Protocol):
    """Rows of a teacher cache."""

    @property
    def mean(self) -> Tensor: ...
    @property
    def logvar(self) -> Tensor: ...
    @property
    def encoder_hidden_states(self) -> Tensor: ...
    @property
    def pooled(self) -> Tensor | None: ...
    @property
    def time_ids(self) -> Tensor | None: ...


class Latents(Protocol):
    """One split of a teacher cache: what distillation reads of `CachedLatents`."""

    def __len__(self) -> int: ...

    @property
    def buckets(self) -> Sequence[range]:
        """Samples whose latents have one shape; all together they are all samples."""

    def batch(self, indices: Tensor) -> TeacherBatch:
        """Moments and text embeddings of samples of one bucket."""

    def text(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Text embeddings of any samples: [B, L, D] and, for SDXL, [B, P]."""

    def empty(self) -> tuple[Tensor, Tensor | None]:
        """The empty caption's embeddings [1, L, D] and, for SDXL, [1, P]."""

    def captions(self, i: int) -> str:
        """Caption of sample i."""


@dataclass(frozen=True)
class Batch:
    """Inputs and targets of one forward pass.

    Attributes:
        noisy_latents: [B, C, h, w].
        timesteps: [B].
        encoder_hidden_states: [B, L, D].
        added: SDXL's added conditions, else None.
        target: [B, C, h, w] what a perfect U-Net predicts.
        choice: seed of what a loss chooses that looks at a part of the batch only.
        timestep_cond: [B, G] of a U-Net that is told the guidance scale, else None.
    """

    noisy_latents: Tensor
    timesteps: Tensor
    encoder_hidden_states: Tensor
    added: dict[str, Tensor] | None
    target: Tensor
    choice: int = 0
    timestep_cond: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        added = None
        if self.added is not None:
            added = {name: tensor.to(device) for name, tensor in self.added.items()}
        return Batch(
            self.noisy_latents.to(device),
            self.timesteps.to(device),
            self.encoder_hidden_states.to(device),
            added,
            self.target.to(device),
            self.choice,
            None if self.timestep_cond is None else self.timestep_cond.to(device),
        )


@dataclass(frozen=True)
class Batches:
    """Makes batches of one split.

    Attributes:
        latents: the split's cache.
        info: the teacher's facts.
        vae_config: its VAE's config, for the latents' scale.
        schedule: its noise schedule, on the CPU.
        skip: only every so many timesteps are drawn, the last one among them.
        window: see `edgekd.training.draws.sample_indices`.
    """

    latents: Latents
    info: TeacherInfo
    vae_config: Mapping[str, Any]
    schedule: NoiseSchedule
    skip: int = 1
    window: int = 0

    def training(
        self, seed: int, positions: Sequence[int], plan: BatchPlan, dropout: float
    ) -> Batch:
        """The batch at stream positions; see `edgekd.training.draws`."""
        buckets = self.latents.buckets
        indices = bucketed_indices(seed, positions, plan.step_samples, buckets, self.window)
        rows = self.latents.batch(indices)
        shape = rows.mean.shape[1:]
        drawn = draw(seed, positions, plan.step_samples, self._choices, dropout, tuple(shape))
        choice = step_choice(seed, positions[0] // plan.step_samples)
        return replace(self._make(rows, drawn), choice=choice)

    def validation(self, count: int, batch_size: int) -> list[Batch]:
        """Fixed batches of `count` samples spread over the split.

        Timesteps are stratified: one from the middle of each of `count` equal parts of the
        schedule, in an order that does not follow the samples' order. Captions are kept.
        """
        count = min(count, len(self.latents))
        indices = torch.arange(count) * len(self.latents) // count
        middles = (torch.arange(count) * 2 + 1) * self._choices // (2 * count)
        order = torch.randperm(count, generator=generator(_VALIDATION_SEED, "order", 0))
        timesteps = middles[order]
        batches = []
        for first in range(0, count, batch_size):
            chunk = indices[first : first + batch_size]
            chosen = timesteps[first : first + batch_size]
            rows = self.latents.batch(chunk)
            noise = torch.stack(
                [_validation_noise(first + i, rows.mean.shape[1:]) for i in range(len(chunk))]
            )
            keep = torch.ones(len(chunk), dtype=torch.bool)
            batch = self._make(rows, Draw(chosen, keep, noise[:, 0], noise[:, 1]))
            batches.append(replace(batch, choice=step_choice(_VALIDATION_SEED, first)))
        return batches

    @property
    def _choices(self) -> int:
        """Number of timesteps to choose from."""
        return self.schedule.timesteps // self.skip

    def _make(self, rows: TeacherBatch, drawn: Draw) -> Batch:
        timesteps = (drawn.timesteps + 1) * self.skip - 1
        mean, logvar = rows.mean.float(), rows.logvar.float()
        sampled = mean + torch.exp(0.5 * logvar) * drawn.vae_noise
        # The moments are already sampled with this batch's own noise: only scale and shift.
        latents = sample_latents(sampled, logvar, self.vae_config, None)
        hidden_states, pooled = drop_captions(
            rows.encoder_hidden_states.float(),
            rows.pooled,
            self.latents.empty(),
            drawn.keep_caption,
        )
        return Batch(
            self.schedule.add_noise(latents, drawn.noise, timesteps),
            timesteps,
            hidden_states,
            added_conditions(self.info, pooled, rows.time_ids),
            self.schedule.target(latents, drawn.noise, timesteps),
        )


def _validation_noise(i: int, shape: Sequence[int]) -> Tensor:
    """Noise of the forward diffusion and of the VAE for validation sample i, [2, C, h, w]."""
    return torch.randn(2, *shape, generator=generator(_VALIDATION_SEED, "validation", i))


def drop_captions(
    hidden_states: Tensor, pooled: Tensor | None, empty: tuple[Tensor, Tensor | None], keep: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Text embeddings with those of dropped captions replaced by the empty caption's.

    Teacher and student both get the result, so that they drop the same captions.

    Args:
        hidden_states: [B, L, D].
        pooled: [B, P], or None.
        empty: [1, L, D] and [1, P] or None.
        keep: [B] boolean.
    """
    empty_states, empty_pooled = empty
    hidden_states = torch.where(keep[:, None, None], hidden_states, empty_states.to(hidden_states))
    if pooled is None or empty_pooled is None:
        return hidden_states, None
    pooled = pooled.float()
    return hidden_states, torch.where(keep[:, None], pooled, empty_pooled.to(pooled))
