"""Losses of a narrow VAE against its teacher, as pure functions.

Shapes: B batch, [B, 3, H, W] pictures in [-1, 1], [B, C, h, w] latents, [B, 2 C, h, w] moments of
a posterior.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgekd.metrics.efficientnet import EfficientNetLite0
from edgekd.training.images import PERCEPTUAL_LEVELS, perceptual_distance

# A log-variance is known from what the encoder was trained with, and hardly matters: it is of
# samples whose deviation is far below the latents'.
LOG_VARIANCE_WEIGHT = 0.1


def pixel_distance(pictures: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error: the square's would prefer blur wherever a pixel is not certain."""
    return (pictures - target.detach()).abs().mean()


def moment_distance(moments: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of the means, and of the log-variances with a small weight, [B].

    Not the Kullback-Leibler divergence: a posterior is so narrow that it would weigh means by
    1e4 and more.
    """
    (mean, logvar), (target_mean, target_logvar) = (
        values.chunk(2, dim=1) for values in (moments, target)
    )
    spread = latent_distance(logvar, target_logvar)
    return latent_distance(mean, target_mean) + LOG_VARIANCE_WEIGHT * spread


def latent_distance(latents: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error, [B]."""
    return (latents - target.detach()).abs().flatten(1).mean(dim=1)


def feature_distance(trunk: EfficientNetLite0, pictures: Tensor, target: Tensor) -> Tensor:
    """`perceptual_distance` of the levels that still have positions."""
    with torch.no_grad():
        expected = trunk(target).maps[:PERCEPTUAL_LEVELS]
    return perceptual_distance(trunk(pictures).maps[:PERCEPTUAL_LEVELS], expected)
