"""From what a recipe asks for to an explicit `StudentArch` that fits its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from edgekd.errors import InputError
from edgekd.recipe import StudentSection
from edgekd.schema import validate
from edgekd.student.arch import Indices, StageArch, StudentArch
from edgekd.student.plan import plan_student, to_arch
from edgekd.student.shape import UNetShape, read_shape


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
# SSD-1B's depths (Gupta et al., arXiv 2401.02677), outermost stage first, of Stable Diffusion XL's
# (0, 2, 10). Its mid block is one residual block.
_SSD_1B = "ssd-1b"
_SDXL_PAIRS = (0, 0), (2, 2), (10, 10)
_SSD_1B_PAIRS = (((0, 0), (0, 0, 0)), ((2, 2), (2, 1, 1)), ((4, 4), (4, 4, 10)))
# The teacher's own architecture.
FULL = "full"
PRESETS = (FULL, *_PRESETS, _SSD_1B)


def resolve(arch: StudentArch, teacher_config: Mapping[str, Any]) -> StudentArch:
    """The same arch with every field explicit and checked.

    Raises:
        InputError: see `edgekd.student.plan.plan_student`.
    """
    return to_arch(plan_student(arch, teacher_config))


def full(config: Mapping[str, Any]) -> StudentArch:
    """The arch that keeps everything of a teacher, all fields explicit."""
    return resolve(_unresolved(FULL, read_shape(config)), config)


def preset(name: str, config: Mapping[str, Any]) -> StudentArch:
    """A named arch for a teacher, all fields explicit.

    Args:
        name: one of `PRESETS`.
        config: the teacher's U-Net config; for BK-SDM's with two pairs per down block, as in Stable
            Diffusion 1.x, 2.x and XL and in the starter teacher; for SSD-1B's as in XL.

    Raises:
        InputError: unknown name, or a teacher that the preset does not fit: it says which would.
    """
    if name not in PRESETS:
        raise InputError(f"the preset must be one of {', '.join(PRESETS)}", repr(name))
    shape = read_shape(config)
    misfit = _misfit(name, shape)
    if misfit is not None:
        fitting = [other for other in PRESETS if _misfit(other, shape) is None]
        raise InputError(
            f"`{name}` needs a teacher with {misfit[0]}",
            misfit[1],
            f"Of the presets {', '.join(fitting)} would do, or give `student.arch` in the recipe.",
        )
    return resolve(_unresolved(name, shape), config)


def _misfit(name: str, shape: UNetShape) -> tuple[str, str] | None:
    """What a preset needs that a teacher lacks, and what the teacher has; None: it fits."""
    if name == FULL:
        return None
    pairs = [len(stage) for stage in shape.down]
    if name == _SSD_1B:
        wanted = f"Stable Diffusion XL's transformer depths {[list(p) for p in _SDXL_PAIRS]}"
        fits = shape.down == _SDXL_PAIRS and shape.mid is not None
        return None if fits else (wanted, str([list(stage) for stage in shape.down]))
    chosen = _PRESETS[name]
    if set(pairs) != {2}:
        return "two pairs in each down block", f"{pairs} pairs"
    if shape.stages <= chosen.removed_stages:
        return f"more than {chosen.removed_stages} stages", str(shape.stages)
    if chosen.mid and shape.mid is None:
        return "a mid block", "none"
    return None


def _unresolved(name: str, shape: UNetShape) -> StudentArch:
    if name == FULL:
        return StudentArch(stages=(StageArch(),) * shape.stages, mid=shape.mid is not None)
    if name == _SSD_1B:
        stages = tuple(
            StageArch(
                down_transformers=_spread(shape.down[s], down),
                up_transformers=_spread(shape.up[s], up),
            )
            for s, (down, up) in enumerate(_SSD_1B_PAIRS)
        )
        return StudentArch(stages=stages, mid_transformers=())
    chosen = _PRESETS[name]
    stages = (_BK_SDM_STAGE,) * (shape.stages - chosen.removed_stages)
    return StudentArch(stages=stages, mid=chosen.mid)


def _spread(depths: tuple[int, ...], kept: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(evenly_spaced(own, count) for own, count in zip(depths, kept, strict=True))


def evenly_spaced(count: int, kept: int) -> Indices:
    """`kept` of `count` indices, the first and the last among them; a single one is the first."""
    if kept <= 1:
        return tuple(range(kept))
    return tuple((2 * i * (count - 1) + kept - 1) // (2 * (kept - 1)) for i in range(kept))


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
