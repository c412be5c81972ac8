"""From what a recipe asks for to an explicit `StudentArch` that fits its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from edgekd.errors import InputError
from edgekd.recipe import StudentSection
from edgekd.schema import validate
from edgekd.student.arch import StageArch, StudentArch
from edgekd.student.plan import plan_student, to_arch
from edgekd.student.shape import read_shape


class _Preset(NamedTuple):
    mid: bool
    removed_stages: int


# BK-SDM (Kim et al., arXiv 2305.15798). All drop the second pair of each down block and the
# middle pair of each up block; Small drops the mid block too; Tiny the innermost stage as well.
_PRESETS = {
    "bk-sdm-base": _Preset(mid=True, removed_stages=0),
    "bk-sdm-small": _Preset(mid=False, removed_stages=0),
    "bk-sdm-tiny": _Preset(mid=False, removed_stages=1),
}
_BK_SDM_STAGE = StageArch(down=(0,), up=(0, 2))
# The teacher's own architecture.
FULL = "full"
PRESETS = (FULL, *_PRESETS)


def resolve(arch: StudentArch, teacher_config: Mapping[str, Any]) -> StudentArch:
    """The same arch with every field explicit and checked.

    Raises:
        InputError: see `edgekd.student.plan.plan_student`.
    """
    return to_arch(plan_student(arch, teacher_config))


def full(config: Mapping[str, Any]) -> StudentArch:
    """The arch that keeps everything of a teacher, all fields explicit."""
    shape = read_shape(config)
    stages = (StageArch(),) * shape.stages
    return resolve(StudentArch(stages=stages, mid=shape.mid is not None), config)


def preset(name: str, config: Mapping[str, Any]) -> StudentArch:
    """A named arch for a teacher, all fields explicit.

    Args:
        name: one of `PRESETS`.
        config: the teacher's U-Net config; for all but `full` with two pairs per down block, as
            in Stable Diffusion 1.x, 2.x and XL and in the starter teacher.

    Raises:
        InputError: unknown name, or a teacher that the preset does not fit.
    """
    if name == FULL:
        return full(config)
    if name not in _PRESETS:
        raise InputError(f"the preset must be one of {', '.join(PRESETS)}", repr(name))
    chosen, shape = _PRESETS[name], read_shape(config)
    pairs = [len(stage) for stage in shape.down]
    if set(pairs) != {2} or shape.stages <= chosen.removed_stages:
        raise InputError(
            f"`{name}` needs a teacher with two pairs in each down block "
            f"and more than {chosen.removed_stages} stages",
            f"{pairs} pairs",
            "Give `student.arch` in the recipe instead.",
        )
    if chosen.mid and shape.mid is None:
        raise InputError(f"`{name}` needs a teacher with a mid block", "none")
    stages = (_BK_SDM_STAGE,) * (shape.stages - chosen.removed_stages)
    return resolve(StudentArch(stages=stages, mid=chosen.mid), config)


def resolve_arch(section: StudentSection, config: Mapping[str, Any]) -> StudentArch:
    """The arch that a recipe asks for, checked against its teacher, all fields explicit.

    Args:
        section: `student` of a recipe: a preset's name or an arch. Where it says nothing, the
            whole teacher stands for what a search will find.
        config: the teacher's U-Net config.

    Raises:
        InputError: an arch against its schema; see `preset` and `resolve` for the rest.
    """
    if section.arch is not None:
        return resolve(validate(StudentArch, section.arch, "`student.arch`"), config)
    return preset(section.preset or FULL, config)
