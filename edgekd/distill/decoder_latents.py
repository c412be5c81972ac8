"""Latents that a narrow VAE learns from: of images, and of pictures that its teacher drew.

Drawn ones are the ends of the teacher's trajectories, which the phase `few_step` leaves if its
student follows them (`method: trajectory`); else there are none.

Shapes: B batch, [B, C, h, w] latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from edgekd.diffusion.encode import unscale_latents
from edgekd.distill.batches import Latents
from edgekd.training.draws import generator, sample_indices


class GeneratedLatents(Protocol):
    """Pictures that the teacher drew, before they are decoded."""

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> Tensor:
        """Scaled latents of pictures, [B, C, h, w]."""


@dataclass(frozen=True)
class DecoderLatents:
    """Unscaled latents of one split, as a VAE's decoder takes them.

    Attributes:
        cached: the moments of images.
        generated: None where nothing was drawn.
        vae_config: the teacher's, for the scale.
        share: of generated latents in a batch, where there are any.
        crop: side of random crops; larger latents are cut to it, or to the smallest bucket's.
    """

    cached: Latents
    generated: GeneratedLatents | None
    vae_config: Mapping[str, Any]
    share: float
    crop: int

    def training(self, seed: int, positions: Sequence[int]) -> Tensor:
        """[B, C, h, w] at stream positions, each a function of the seed and its position.

        Latents of images are sampled from the posterior, as the U-Net's are in training.
        """
        rows = []
        for position in positions:
            source = generator(seed, "decoder", position)
            drawn = bool(torch.rand((), generator=source) < self.share)
            row = self._row(drawn, seed, position, source)
            rows.append(random_crop(row, self._side, source))
        return torch.stack(rows)

    @cached_property
    def _side(self) -> int:
        """Side of what a batch is made of."""
        firsts = [torch.tensor([bucket.start]) for bucket in self.cached.buckets]
        sides = (min(self.cached.batch(first).mean.shape[2:]) for first in firsts)
        return min(self.crop, *sides)

    def _row(self, drawn: bool, seed: int, position: int, source: torch.Generator) -> Tensor:
        if drawn and self.generated is not None:
            return self.generated_rows(sample_indices(seed, [position], len(self.generated)))[0]
        rows = self.cached.batch(sample_indices(seed, [position], len(self.cached)))
        mean, logvar = rows.mean[0].float(), rows.logvar[0].float()
        return mean + torch.exp(0.5 * logvar) * torch.randn(mean.shape, generator=source)

    def means(self, count: int) -> Tensor:
        """Means of at most `count` images, spread over the split, cropped in the middle."""
        count = min(count, len(self.cached))
        samples = _spread(count, len(self.cached))[:, None]
        return torch.cat([middle(self.cached.batch(i).mean.float(), self._side) for i in samples])

    def drawn(self, count: int) -> Tensor | None:
        """At most `count` generated latents, spread over the split, cropped in the middle."""
        if self.generated is None or len(self.generated) == 0:
            return None
        count = min(count, len(self.generated))
        return middle(self.generated_rows(_spread(count, len(self.generated))), self._side)

    def generated_rows(self, indices: Tensor) -> Tensor:
        """Generated latents, unscaled."""
        assert self.generated is not None
        return unscale_latents(self.generated.batch(indices).float(), self.vae_config)


def _spread(count: int, length: int) -> Tensor:
    return torch.arange(count) * length // count


def random_crop(latents: Tensor, side: int, source: torch.Generator) -> Tensor:
    """A random square of [C, h, w], or all of a side that is not larger."""
    _, height, width = latents.shape
    top, left = (
        int(torch.randint(max(length - side, 0) + 1, (), generator=source))
        for length in (height, width)
    )
    return latents[:, top : top + side, left : left + side]


def middle(latents: Tensor, side: int) -> Tensor:
    """The square in the middle of [B, C, h, w], or all of a side that is not larger."""
    top, left = (max(length - side, 0) // 2 for length in latents.shape[2:])
    return latents[:, :, top : top + side, left : left + side]
