"""Learned projections of narrowed blocks' features to the teacher's width.

They are part of the student while it trains, so that its optimiser, its checkpoints and other
processes know them, and are thrown away before it is saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.distill.terms.registry import weighted_terms
from edgekd.recipe_losses import LossSection
from edgekd.student.arch import StudentArch
from edgekd.student.importance import magnitude_importance
from edgekd.student.mapping import tensor_map
from edgekd.student.pairs import block_pairs

NAME = "projections"


def _key(point: str) -> str:
    return point.replace(".", "_")


def _stream(point: str, last: int) -> str:
    """A layer whose output channels are those of the block that a point is in.

    A stage has one stream, and its up block always has a layer that ends in it.
    """
    kind, *rest = point.split(".")
    if kind == "mid_block":
        block = kind
    else:
        number = int(rest[0])
        block = f"up_blocks.{last - number if kind == 'down_blocks' else number}"
    return f"{block}.resnets.0.conv2.weight"


def _projection(kept: Tensor, width: int) -> nn.Conv2d:
    """A 1x1 convolution that puts each channel where it was inherited from.

    So a student begins as close to its teacher as inheritance has made it, without noise.
    """
    with torch.device("meta"):
        projection = nn.Conv2d(len(kept), width, kernel_size=1)
    weight = torch.zeros(width, len(kept), 1, 1)
    weight[kept, torch.arange(len(kept))] = 1.0
    projection.weight = nn.Parameter(weight)
    projection.bias = nn.Parameter(torch.zeros(width))
    return projection


def add_projections(
    student: nn.Module, arch: StudentArch, teacher: Any, losses: LossSection
) -> None:
    """Give a student a regressor for each narrowed block that a term wants at full width.

    FitNets (Romero et al. 2015, equation 3), with 1x1 convolutions. No random number is drawn.

    Args:
        teacher: the teacher's U-Net.
    """
    config = dict(teacher.config)
    pairs = [pair for term, _ in weighted_terms(losses) for pair in term.pairs(arch, config)]
    wanted = {pair.student for pair in pairs if pair.project}
    blocks = block_pairs(arch, config)
    narrowed = [pair for pair in blocks if pair.student in wanted and not pair.same_width]
    if not narrowed:
        return
    sources = tensor_map(arch, config, magnitude_importance(teacher.state_dict()))
    projections = nn.ModuleDict()
    for pair in narrowed:
        kept = sources[_stream(pair.student, len(arch.stages) - 1)].kept[0]
        if kept is None:
            raise ValueError(f"`{pair.student}` must be narrowed, but keeps all channels")
        projections[_key(pair.student)] = _projection(kept, pair.widths[0])
    student.add_module(NAME, projections.to(teacher.device))


def drop_projections(student: nn.Module) -> None:
    """Make it a stock U-Net again."""
    if hasattr(student, NAME):
        delattr(student, NAME)


def projections_of(student: nn.Module) -> Mapping[str, nn.Module]:
    """A student's projections; see `project`."""
    found = getattr(student, NAME, None)
    return dict(found.items()) if isinstance(found, nn.ModuleDict) else {}


def project(projections: Mapping[str, nn.Module], point: str, features: Tensor) -> Tensor:
    """Features of a point at the teacher's width, in the projection's type; equal ones as they
    are.
    """
    projection = projections.get(_key(point))
    if projection is None:
        return features
    projected: Tensor = projection(features.to(next(projection.parameters()).dtype))
    return projected
