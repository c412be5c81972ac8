"""Which points of a student and of its teacher mean the same; see `edgekd.diffusion.taps`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from edgekd.student.arch import StudentArch
from edgekd.student.layout import unet_layers
from edgekd.student.plan import plan_student

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

    These are down blocks, the mid block, up blocks. Where innermost stages are removed, the
    student's last down block has no downsampling any more: the last layer before the teacher's
    downsampling stands for it, and its mid block has no partner.

    Raises:
        InputError: see `edgekd.student.plan.plan_student`.
    """
    plan = plan_student(arch, teacher_config)
    removed = plan.teacher.stages - len(plan.stages)
    widths = [(plan.teacher.widths[s], stage.width) for s, stage in enumerate(plan.stages)]
    whole = range(plan.last if removed else plan.last + 1)
    pairs = [BlockPair(f"down_blocks.{s}", f"down_blocks.{s}", widths[s]) for s in whole]
    down = plan.stages[plan.last].down
    if removed and down:
        depths = plan.teacher.down[plan.last]
        theirs = _last_layer(plan.last, len(depths), depths[-1] > 0)
        ours = _last_layer(plan.last, len(down), bool(down[-1].blocks))
        pairs.append(BlockPair(theirs, ours, widths[plan.last]))
    if plan.mid is not None and not removed:
        pairs.append(BlockPair("mid_block", "mid_block", widths[plan.last]))
    for s in reversed(range(len(plan.stages))):
        theirs, ours = f"up_blocks.{plan.last - s + removed}", f"up_blocks.{plan.last - s}"
        pairs.append(BlockPair(theirs, ours, widths[s]))
    return pairs


def _last_layer(stage: int, pairs: int, attends: bool) -> str:
    """The last layer of a down block before its downsampling."""
    return f"down_blocks.{stage}.{'attentions' if attends else 'resnets'}.{pairs - 1}"


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
