"""A teacher's cache with seeded random pictures, where no image has been prepared."""

from __future__ import annotations

import torch

from edgekd.data.cache import CachedBatch
from edgekd.diffusion.encode import encode_prompts
from edgekd.diffusion.load import Teacher

_CAPTIONS = ("", "a red apple", "a blue car", "a green tree")


class RandomLatents:
    """What `CachedLatents` offers, in memory: random moments, and captions that are encoded.

    Args:
        latent_size: side of the latents; None: the teacher's.
    """

    def __init__(
        self, teacher: Teacher, count: int, seed: int, latent_size: int | None = None
    ) -> None:
        source, info = torch.Generator().manual_seed(seed), teacher.info
        size = latent_size or info.latent_size
        shape = (count, info.latent_channels, size, size)
        self.mean = torch.randn(shape, generator=source)
        # Far less than the mean's spread, as in a VAE that was trained.
        self.logvar = torch.randn(shape, generator=source) - 4
        text = encode_prompts(teacher, _CAPTIONS)
        self._states = text.encoder_hidden_states.float().cpu()
        self._pooled = None if text.pooled is None else text.pooled.float().cpu()
        self.rows = 1 + torch.arange(count) % (len(_CAPTIONS) - 1)
        side = float(size * info.vae_scale_factor)
        self._sizes = torch.tensor([side, side, 0.0, 0.0, side, side])

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def buckets(self) -> list[range]:
        """See `Latents`."""
        return [range(len(self))]

    def batch(self, indices: torch.Tensor) -> CachedBatch:
        """See `Latents`."""
        hidden_states, pooled = self.text(indices)
        return CachedBatch(
            mean=self.mean[indices],
            logvar=self.logvar[indices],
            encoder_hidden_states=hidden_states,
            pooled=pooled,
            time_ids=self._sizes.repeat(len(indices), 1),
            captions=[_CAPTIONS[row] for row in self.rows[indices].tolist()],
        )

    def text(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See `Latents`."""
        rows = self.rows[indices]
        return self._states[rows], None if self._pooled is None else self._pooled[rows]

    def empty(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See `Latents`."""
        return self._states[:1], None if self._pooled is None else self._pooled[:1]

    def captions(self, i: int) -> str:
        """See `Latents`."""
        return _CAPTIONS[int(self.rows[i])]
