"""Block features of the student against the teacher's.

Shapes: B batch, [B, C, h, w] feature maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edgekd.distill.terms.floats import exact
from edgekd.distill.terms.term import Forward, TapPair, Term
from edgekd.student.arch import StudentArch
from edgekd.student.pairs import block_pairs

# TinyFusion (Fang et al. 2024, section 3.4): values further than this from the mean are massive.
MASSIVE_SIGMAS = 2.0
EPSILON = 1e-6


def ordinary(features: Tensor, sigmas: float = MASSIVE_SIGMAS) -> Tensor:
    """Where activations are not massive: `|x - mean| < sigmas * std`, per sample.

    Args:
        features: [B, ...].

    Returns:
        boolean mask of the same shape. A constant sample has no massive values.
    """
    flat = exact(features.detach()).flatten(1)
    distance = (flat - flat.mean(dim=1, keepdim=True)).abs()
    # The standard deviation; `std` takes several times as long on a CPU.
    limit = sigmas * distance.square().mean(dim=1, keepdim=True).sqrt()
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

    Raises:
        ValueError: shapes that differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"feature shapes differ: {tuple(student.shape)}, {tuple(teacher.shape)}")
    teacher, student = exact(teacher.detach()), exact(student)
    mask = ordinary(student) & ordinary(teacher)
    error = ((student - teacher).square() * mask).flatten(1).sum(dim=1)
    power = (teacher.square() * mask).flatten(1).sum(dim=1)
    return (error / (power + EPSILON)).mean()


def feature(forward: Forward) -> Tensor:
    """Mean of `feature_distance` over blocks of one shape and meaning (after BK-SDM, eq. 3)."""
    return torch.stack([feature_distance(*at.features()) for at in forward.tapped]).mean()


def blocks(arch: StudentArch, teacher_config: Mapping[str, Any]) -> list[TapPair]:
    """The outputs of blocks, those of narrowed stages at the teacher's width."""
    pairs = block_pairs(arch, teacher_config)
    return [TapPair(pair.student, pair.teacher, project=True) for pair in pairs]


TERM = Term(
    "feature",
    "feature: teacher's blocks",
    needs_teacher=True,
    uses_prediction=False,
    value=feature,
    pairs=blocks,
)
