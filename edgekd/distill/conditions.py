"""What a U-Net is told when it draws pictures of cached captions.

Shapes: B pictures, [B, L, D] text embeddings, [B, P] pooled ones, [B, 6] SDXL's sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgekd.diffusion.encode import added_conditions
from edgekd.diffusion.load import Teacher
from edgekd.distill.batches import Batch, Latents


@dataclass(frozen=True)
class TextConditions:
    """Text, and SDXL's added conditions.

    Attributes:
        encoder_hidden_states: [B, L, D].
        added: tensors of B rows; None but for SDXL.
    """

    encoder_hidden_states: Tensor
    added: dict[str, Tensor] | None

    def batch(self, latents: Tensor, timesteps: Tensor) -> Batch:
        """A forward pass on latents [B, C, h, w] at timesteps [B]; there is no target."""
        return Batch(latents, timesteps, self.encoder_hidden_states, self.added, latents)

    def after(self, other: TextConditions) -> TextConditions:
        """Another's rows, then these."""
        added = None
        if self.added is not None and other.added is not None:
            added = {name: torch.cat([other.added[name], self.added[name]]) for name in self.added}
        text = torch.cat([other.encoder_hidden_states, self.encoder_hidden_states])
        return TextConditions(text, added)


def caption_conditions(
    teacher: Teacher, latents: Latents, rows: Tensor, latent_size: int
) -> TextConditions:
    """Of pictures of some samples' captions, drawn whole at a size, on the teacher's device.

    Args:
        rows: [B] samples.
    """
    return _conditions(teacher, *latents.text(rows), latent_size)


def empty_conditions(
    teacher: Teacher, latents: Latents, count: int, latent_size: int
) -> TextConditions:
    """Of pictures of nothing in particular, `count` times."""
    text, pooled = latents.empty()
    repeated = None if pooled is None else pooled.expand(count, -1)
    return _conditions(teacher, text.expand(count, -1, -1), repeated, latent_size)


def without_captions(batch: Batch, latents: Latents) -> TextConditions:
    """Of the same pictures as a batch's, of nothing in particular."""
    states, added = batch.encoder_hidden_states, batch.added
    text, pooled = latents.empty()
    if added is not None and pooled is not None:
        added = {**added, "text_embeds": pooled.to(states).expand(len(states), -1)}
    return TextConditions(text.to(states).expand_as(states), added)


def _conditions(
    teacher: Teacher, text: Tensor, pooled: Tensor | None, latent_size: int
) -> TextConditions:
    side = float(latent_size * teacher.info.vae_scale_factor)
    # As diffusers' pipeline tells it of a picture that is drawn whole.
    sizes = torch.tensor([[side, side, 0.0, 0.0, side, side]]).repeat(len(text), 1)
    pooled = None if pooled is None else pooled.float().to(teacher.device)
    added = added_conditions(teacher.info, pooled, sizes.to(teacher.device))
    return TextConditions(text.float().to(teacher.device), added)
