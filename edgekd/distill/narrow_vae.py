"""A narrow VAE beside its teacher: how each kind decodes and encodes, and is compared with it.

Shapes: B batch, [B, C, h, w] latents, [B, 3, H, W] pictures in [-1, 1], [B, 2 C, h, w] moments of
a posterior.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from edgekd.diffusion.encode import scale_latents
from edgekd.distill.decoder_losses import latent_distance, moment_distance
from edgekd.recipe_distill import DistillSection
from edgekd.student.decoder import student_vae_config
from edgekd.student.decoder_build import build_narrow_vae
from edgekd.student.tiny_decoder import build_tiny_vae

# Latents that the first weights are fitted on: thousands of positions even where they are few.
FITTED = 16


class NarrowVae(nn.Module):
    """An `AutoencoderKL` as one module, so that several processes can share its gradients."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: Tensor, pictures: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Pictures of unscaled latents, and what pictures, if there are any, are encoded to."""
        return self.decode(latents), None if pictures is None else self.encode(pictures)

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of unscaled latents."""
        decoded: Tensor = self.vae.decode(latents).sample
        return decoded

    def encode(self, pictures: Tensor) -> Tensor:
        """Moments of the posterior, [B, 2 C, h, w]."""
        return _moments(self.vae, pictures)

    def expected(self, teacher: Any, pictures: Tensor) -> Tensor:
        """What `encode` should give, by the teacher."""
        return _moments(teacher, pictures)

    def distance(self, found: Tensor, expected: Tensor) -> Tensor:
        """Of what `encode` gave, [B]."""
        return moment_distance(found, expected)


class NarrowTinyVae(NarrowVae):
    """An `AutoencoderTiny`: it takes and gives latents as a U-Net does, scaled, and its encoder
    gives them without a posterior.

    Args:
        scale: the config of the teacher, whose latents they are.
    """

    def __init__(self, vae: Any, scale: Mapping[str, Any]) -> None:
        super().__init__(vae)
        self._scale = scale

    def decode(self, latents: Tensor) -> Tensor:
        """See `NarrowVae`."""
        return super().decode(scale_latents(latents, self._scale))

    def encode(self, pictures: Tensor) -> Tensor:
        """Scaled latents, [B, C, h, w]."""
        latents: Tensor = self.vae.encode(pictures).latents
        return latents

    def expected(self, teacher: Any, pictures: Tensor) -> Tensor:
        """The mean of the teacher's posterior, scaled."""
        return scale_latents(teacher.encode(pictures).latent_dist.mean, self._scale)

    def distance(self, found: Tensor, expected: Tensor) -> Tensor:
        """See `NarrowVae`."""
        return latent_distance(found, expected)


def first_vae(section: DistillSection, teacher: Any, latents: Callable[[int], Tensor]) -> NarrowVae:
    """A narrow VAE of the recipe's kind with its first weights, on the teacher's device.

    Args:
        teacher: `AutoencoderKL`, in fp32.
        latents: gives so many unscaled ones, to fit weights on.

    Raises:
        InputError: see `student_vae_config`.
    """
    config = student_vae_config(section.decoder, teacher.config)
    if section.decoder.kind == "tiny":
        vae = build_tiny_vae(config, section.seed).to(teacher.device)
        return NarrowTinyVae(vae, dict(teacher.config))
    return NarrowVae(build_narrow_vae(teacher, config, latents(FITTED).to(teacher.device)))


def _moments(vae: Any, pictures: Tensor) -> Tensor:
    values: Tensor = vae.encode(pictures).latent_dist.parameters
    return values
