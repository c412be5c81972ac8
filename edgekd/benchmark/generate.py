"""Draw one picture per prompt, from noise that belongs to the prompt and not to the subject.

latents: [B,C,h,w] float32, standard normal; images: [B,H,W,3] uint8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekd.benchmark.prompts import Images
from edgekd.benchmark.suite import GenerationSection
from edgekd.errors import GateError

if TYPE_CHECKING:
    from torch import Tensor


def noise_seed(suite_seed: int, prompt_index: int) -> int:
    """Seed of one prompt's noise: 63 bits of a hash, so that neighbours share nothing."""
    digest = hashlib.sha256(f"noise:{suite_seed}:{prompt_index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def initial_latents(
    indices: Sequence[int], suite_seed: int, channels: int, size: tuple[int, int]
) -> Tensor:
    """Noise [B,C,h,w] of the prompts with these indices; the same for every subject and batch."""
    import torch

    return torch.stack(
        [
            torch.randn(
                (channels, *size),
                generator=torch.Generator().manual_seed(noise_seed(suite_seed, index)),
            )
            for index in indices
        ]
    )


def set_scheduler(pipeline: Any, name: str) -> None:
    """Give a pipeline the suite's scheduler, built from the noise schedule it was trained on."""
    from edgekd.libraries import diffusers

    # DDIM's default clips pixels. A pipeline sets that right for the scheduler that it is made
    # with; a config of another class does not say it.
    config = {"clip_sample": False, **pipeline.scheduler.config}
    pipeline.scheduler = getattr(diffusers, name).from_config(config)


def latent_shape(pipeline: Any, resolution: int) -> tuple[int, tuple[int, int]]:
    """Channels and size of the latents that a pipeline denoises for a square picture."""
    side = resolution // pipeline.vae_scale_factor
    return int(pipeline.unet.config["in_channels"]), (side, side)


def draw(
    pipeline: Any,
    captions: Sequence[str],
    indices: Sequence[int],
    generation: GenerationSection,
    resolution: int,
    seed: int,
) -> Images:
    """Pictures of one batch, uint8 [B,H,W,3].

    Raises:
        GateError: a picture holds NaN or infinity.
    """
    import torch

    channels, size = latent_shape(pipeline, resolution)
    with torch.inference_mode():
        pictures = pipeline(
            prompt=list(captions),
            height=resolution,
            width=resolution,
            num_inference_steps=generation.steps,
            guidance_scale=generation.guidance_scale,
            latents=initial_latents(indices, seed, channels, size),
            output_type="np",
        ).images
    bad = [index for index, picture in zip(indices, pictures, strict=True) if not finite(picture)]
    if bad:
        raise GateError("every generated picture must be finite", f"NaN or infinity at {bad[:5]}")
    return np.asarray(np.round(np.clip(pictures, 0, 1) * 255), dtype=np.uint8)


def finite(values: Any) -> bool:
    return bool(np.isfinite(values).all())
