"""Where the student's blocks are active, against the teacher's.

Shapes: B batch, [B, C, h, w] feature maps, [B, h * w] activation maps.
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

EPSILON = 1e-12


def activation_map(features: Tensor) -> Tensor:
    """`Q / ||Q||_2` with `Q = sum_c F_c^2` (Zagoruyko & Komodakis 2017, section 3.1).

    Args:
        features: [B, C, h, w].

    Returns:
        [B, h * w] of length 1, whatever the number and the scale of the channels.
    """
    energy = exact(features).square().sum(dim=1).flatten(1)
    length: Tensor = torch.linalg.vector_norm(energy, dim=1, keepdim=True)
    return energy / (length + EPSILON)


def map_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """`|| Q_s / ||Q_s|| - Q_t / ||Q_t|| ||^2`, mean over the batch (ibid., equation 2).

    The norm is squared, as in the authors' code: the gradient then falls to 0 at the minimum.

    Args:
        student: [B, C_s, h, w].
        teacher: [B, C_t, h, w]; no gradient goes into it.

    Returns:
        scalar in [0, 2].

    Raises:
        ValueError: resolutions that differ.
    """
    if student.shape[2:] != teacher.shape[2:]:
        raise ValueError(f"resolutions differ: {tuple(student.shape)}, {tuple(teacher.shape)}")
    difference = activation_map(student) - activation_map(teacher.detach())
    return difference.square().sum(dim=1).mean()


def value(forward: Forward) -> Tensor:
    """Mean of `map_distance` over blocks."""
    return torch.stack([map_distance(*at.features()) for at in forward.tapped]).mean()


def blocks(arch: StudentArch, teacher_config: Mapping[str, Any]) -> list[TapPair]:
    """The outputs of blocks, those of narrowed stages too. See `block_pairs`."""
    return [TapPair(pair.student, pair.teacher) for pair in block_pairs(arch, teacher_config)]


TERM = Term(
    "activation_map",
    "activation map: where the teacher's blocks are active",
    needs_teacher=True,
    uses_prediction=False,
    value=value,
    pairs=blocks,
)
