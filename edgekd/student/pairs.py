"""Which points of a student and of its teacher mean the same; see `edgekd.diffusion.taps`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from edgekd.errors import InputError
from edgekd.student.arch import StudentArch
from edgekd.student.config import to_unet_config
from edgekd.student.layout import unet_layers
from edgekd.student.plan import plan_student
from edgekd.student.shape import UNetShape, read_shape

# `attn1` looks at the image, `attn2` at the text.
AttentionKind = Literal["attn1", "attn2"]


class BlockPair(NamedTuple):
    """Outputs of blocks at one place, of one resolution.

    Attributes:
        teacher: point of the teacher.
        student: point of the student.
        widths: channels of the teacher's and of the student's.
    """

    teacher: str
    student: str
    widths: tuple[int, int]

    @property
    def same_width(self) -> bool:
        return self.widths[0] == self.widths[1]


def block_pairs(arch: StudentArch, teacher_config: Mapping[str, Any]) -> list[BlockPair]:
    """Outputs of blocks of the same stage and direction, as in BK-SDM's feature KD.

    See `paired_blocks`.

    Raises:
        InputError: see `edgekd.student.plan.plan_student`.
    """
    return paired_blocks(
        read_shape(to_unet_config(arch, teacher_config)), read_shape(teacher_config)
    )


def paired_blocks(student: UNetShape, teacher: UNetShape) -> list[BlockPair]:
    """Outputs of blocks at one place in two U-Nets, by their layouts alone.

    These are down blocks, the mid block, up blocks. Where innermost stages are removed, the
    student's last down block has no downsampling any more: the last layer before the teacher's
    downsampling stands for it, and its mid block has no partner.

    Raises:
        InputError: the student has more stages than the teacher.
    """
    removed, last = teacher.stages - student.stages, student.stages - 1
    if removed < 0:
        raise InputError(
            f"the student may have at most the teacher's {teacher.stages} stages",
            str(student.stages),
        )
    widths = list(zip(teacher.widths, student.widths, strict=False))
    whole = range(last if removed else last + 1)
    pairs = [BlockPair(f"down_blocks.{s}", f"down_blocks.{s}", widths[s]) for s in whole]
    if removed and student.down[last]:
        theirs, ours = last_layer(teacher, last), last_layer(student, last)
        pairs.append(BlockPair(theirs, ours, widths[last]))
    if student.mid is not None and teacher.mid is not None and not removed:
        pairs.append(BlockPair("mid_block", "mid_block", widths[last]))
    for s in reversed(range(student.stages)):
        theirs, ours = f"up_blocks.{last - s + removed}", f"up_blocks.{last - s}"
        pairs.append(BlockPair(theirs, ours, widths[s]))
    return pairs


def last_layer(shape: UNetShape, stage: int) -> str:
    """The last layer of a down block, which has one, before its downsampling."""
    depths = shape.down[stage]
    return f"down_blocks.{stage}.{'attentions' if depths[-1] else 'resnets'}.{len(depths) - 1}"


def attention_pairs(
    arch: StudentArch, teacher_config: Mapping[str, Any], kind: AttentionKind
) -> list[tuple[str, str]]:
    """Points `(teacher, student)` of each attention of the student and the one it came from.

    Raises:
        InputError: see `edgekd.student.plan.plan_student`.
    """
    query = f".{kind}.to_q"
    return [
        (layer.source.removesuffix(".to_q"), layer.name.removesuffix(".to_q"))
        for layer in unet_layers(plan_student(arch, teacher_config))
        if layer.name.endswith(query)
    ]
