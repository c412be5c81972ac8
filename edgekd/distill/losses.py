"""Loss terms of distillation: pure functions of predictions and features.

Shapes: B batch, [B, C, h, w] predictions and feature maps, [B] per-sample values.
All losses are computed in fp32, whatever the precision of the forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# TinyFusion (Fang et al. 2024, section 3.4): values further than this from the mean are massive.
MASSIVE_SIGMAS = 2.0
EPSILON = 1e-6


def weighted_mse(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean over the batch of `weight * mean squared error` of a sample.

    With the ground truth as target it is the task loss (Ho et al. 2020, equation 14); with the
    teacher's prediction, output KD (BK-SDM, Kim et al. 2023, equation 2).

    Args:
        prediction: [B, C, h, w].
        target: [B, C, h, w]; no gradient goes into it.
        weights: [B].

    Returns:
        scalar.
    """
    error = (prediction.float() - target.detach().float()).square()
    return (weights * error.flatten(1).mean(dim=1)).mean()


def ordinary(features: Tensor, sigmas: float = MASSIVE_SIGMAS) -> Tensor:
    """Where activations are not massive: `|x - mean| < sigmas * std`, per sample.

    Args:
        features: [B, ...].

    Returns:
        boolean mask of the same shape. A constant sample has no massive values.
    """
    flat = features.detach().float().flatten(1)
    distance = (flat - flat.mean(dim=1, keepdim=True)).abs()
    limit = sigmas * flat.std(dim=1, keepdim=True, unbiased=False)
    return ((distance < limit) | (limit == 0)).view_as(features)


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Distance of one block's features, relative to the teacher's power.

    `|| m * (f_s - f_t) ||^2 / (|| m * f_t ||^2 + eps)`, with one joint mask m that leaves out
    what is massive on either side. Each sample is divided by its own power, so that a block,
    a timestep or a sample with large activations does not drown the others, as it does in
    BK-SDM's summed squared error (equation 3).

    Args:
        student: [B, C, h, w].
        teacher: [B, C, h, w]; no gradient goes into it.

    Returns:
        scalar: 0 for equal features, 1 for a student that is zero.
    """
    teacher = teacher.detach().float()
    student = student.float()
    mask = ordinary(student) & ordinary(teacher)
    error = ((student - teacher).square() * mask).flatten(1).sum(dim=1)
    power = (teacher.square() * mask).flatten(1).sum(dim=1)
    return (error / (power + EPSILON)).mean()


def feature_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Mean of `feature_distance` over pairs of blocks.

    Raises:
        ValueError: no pair, or a pair of different shapes.
    """
    pairs = list(zip(student, teacher, strict=True))
    if not pairs:
        raise ValueError("feature_loss needs at least one pair of features")
    for ours, theirs in pairs:
        if ours.shape != theirs.shape:
            raise ValueError(f"feature shapes differ: {tuple(ours.shape)}, {tuple(theirs.shape)}")
    return torch.stack([feature_distance(ours, theirs) for ours, theirs in pairs]).mean()
