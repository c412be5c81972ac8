"""Classifier-free guidance: followed in two passes of a teacher, or told to a student in one.

Shapes: B batch, [B, C, h, w] latents, [B, G] embeddings of guidance scales.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.distill.batches import Batch
from edgekd.distill.conditions import TextConditions
from edgekd.distill.objective import predict

# Width of the embedding, as published latent consistency models have it.
GUIDANCE_WIDTH = 256


def guided_prediction(
    unet: nn.Module,
    batch: Batch,
    empty: TextConditions,
    scale: Tensor | float,
    autocast: torch.dtype | None,
) -> Tensor:
    """`u + s (c - u)` [B, C, h, w], fp32 (Ho and Salimans 2022, equation 6).

    Guiding the prediction is guiding the picture and the noise that follow from it: both are
    affine in it.

    Args:
        empty: of as many pictures without captions.
        scale: s; a tensor must broadcast with latents.
    """
    both = TextConditions(batch.encoder_hidden_states, batch.added).after(empty)
    doubled = both.batch(torch.cat([batch.noisy_latents] * 2), torch.cat([batch.timesteps] * 2))
    unconditional, conditional = predict(unet, doubled, autocast).float().chunk(2)
    return unconditional + scale * (conditional - unconditional)


def least_guided(stop: float, levels: int) -> int:
    """The lowest timestep at which a teacher is guided.

    The lower end of a guidance interval (Kynkäänniemi et al. 2024, arXiv 2404.07724): at low noise
    guidance costs variety, and a pass, and hardly brings the picture nearer to its caption.

    Args:
        stop: share of the way from noise that is guided; 1: all of it.
        levels: timesteps of the noise schedule.
    """
    return round((1 - stop) * levels)


def scales_at(timesteps: Tensor, scales: Tensor | float, least: int) -> Tensor:
    """Guidance scales [B, 1, 1, 1] at timesteps [B]: 1 below the lowest that is guided.

    Args:
        scales: [B], or of all.
    """
    told = torch.as_tensor(scales, dtype=torch.float32, device=timesteps.device)
    return torch.where(timesteps >= least, told, 1.0)[:, None, None, None]


def guidance_embedding(scales: Tensor, width: int = GUIDANCE_WIDTH) -> Tensor:
    """What a U-Net with `time_cond_proj_dim` is told of guidance scales: [B] to [B, width].

    Sines and cosines of `1000 (s - 1)` at falling frequencies (Meng et al. 2022, "On Distillation
    of Guided Diffusion Models", section 3.1), as diffusers' pipelines do it.

    Args:
        width: even.
    """
    half = width // 2
    falls = torch.arange(half, device=scales.device) * (-math.log(10_000.0) / (half - 1))
    angles = (scales.float() - 1.0)[:, None] * 1000.0 * falls.exp()
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def condition_on_guidance(unet: Any) -> Any:
    """The same U-Net with the guidance scale as an input, to which it does not listen yet.

    Its projection begins at zero: the first prediction is the unconditioned U-Net's own.
    """
    embedding = unet.time_embedding
    projection = nn.Linear(GUIDANCE_WIDTH, embedding.linear_1.in_features, bias=False)
    nn.init.zeros_(projection.weight)
    embedding.cond_proj = projection.to(unet.device, unet.dtype)
    unet.register_to_config(time_cond_proj_dim=GUIDANCE_WIDTH)
    return unet
