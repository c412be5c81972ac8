"""`StudentArch`: what a student keeps of its teacher's U-Net, as pure data.

A U-Net stage is the down block and the up block of one resolution. Each is a
row of pairs: a residual block and, in stages that attend, a transformer of one
or more blocks. In a stock `UNet2DConditionModel` the up block of a stage has
one pair more than its down block, and everything that a `StudentArch` can say
keeps to that: a student is always an ordinary diffusers config.

All indices are the teacher's. `None` means "as in the teacher"; `resolve`
(`edgekd.student.config`) fills it in and checks the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from edgekd.errors import InputError
from edgekd.recipe import StudentSection
from edgekd.student.shape import UNetShape, read_shape

Indices = tuple[int, ...]


@dataclass(frozen=True)
class StageArch:
    """One stage of a student.

    Attributes:
        width: channels; at most the teacher's.
        down: kept pairs of the down block.
        up: kept pairs of the up block, always one more than `down` has.
        down_transformers: for each pair in `down`, its kept transformer blocks;
            empty for all pairs: the down block does not attend.
        up_transformers: the same for `up`.
    """

    width: int | None = None
    down: Indices | None = None
    up: Indices | None = None
    down_transformers: tuple[Indices, ...] | None = None
    up_transformers: tuple[Indices, ...] | None = None


@dataclass(frozen=True)
class StudentArch:
    """A student's U-Net.

    Attributes:
        stages: outermost first; fewer than the teacher has: its innermost stages are removed.
        mid: whether the mid block is kept.
        mid_transformers: kept transformer blocks of the mid block.
    """

    stages: tuple[StageArch, ...]
    mid: bool = True
    mid_transformers: Indices | None = None

    def __post_init__(self) -> None:
        if not self.stages:
            raise InputError("`stages` must have at least one stage", "none")
        if self.mid_transformers is not None and not self.mid:
            raise InputError(
                "`mid_transformers` must be left out without a mid block",
                f"mid=false, mid_transformers={list(self.mid_transformers)}",
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able mapping; `from_dict` gives the same arch back."""
        return {
            "stages": [
                {f.name: _plain(getattr(stage, f.name)) for f in fields(StageArch)}
                for stage in self.stages
            ],
            "mid": self.mid,
            "mid_transformers": _plain(self.mid_transformers),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StudentArch:
        """Read a mapping strictly, such as `student.arch` of a recipe.

        Raises:
            InputError: unknown key, wrong type, or a missing `stages`.
        """
        _check_keys(values, {f.name for f in fields(cls)}, "student arch")
        stages = values.get("stages")
        if not isinstance(stages, list | tuple):
            raise InputError("`stages` must be a list of stages", repr(stages))
        mid = values.get("mid", True)
        if not isinstance(mid, bool):
            raise InputError("`mid` must be true or false", repr(mid))
        return cls(
            stages=tuple(_stage(stage, f"stages[{i}]") for i, stage in enumerate(stages)),
            mid=mid,
            mid_transformers=_indices(values.get("mid_transformers"), "mid_transformers"),
        )


def _stage(values: Any, where: str) -> StageArch:
    _check_keys(values, {f.name for f in fields(StageArch)}, where)
    width = values.get("width")
    if width is not None and not _is_integer(width):
        raise InputError(f"`{where}.width` must be an integer", repr(width))
    return StageArch(
        width=width,
        down=_indices(values.get("down"), f"{where}.down"),
        up=_indices(values.get("up"), f"{where}.up"),
        down_transformers=_lists(values.get("down_transformers"), f"{where}.down_transformers"),
        up_transformers=_lists(values.get("up_transformers"), f"{where}.up_transformers"),
    )


def _check_keys(values: Any, known: set[str], where: str) -> None:
    if not isinstance(values, Mapping):
        raise InputError(f"`{where}` must be a mapping", repr(values))
    unknown = [str(key) for key in values if key not in known]
    if unknown:
        raise InputError(
            f"`{where}` may have the keys {', '.join(sorted(known))}", ", ".join(unknown)
        )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _indices(value: Any, where: str) -> Indices | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(_is_integer(item) for item in value):
        raise InputError(f"`{where}` must be a list of integers", repr(value))
    return tuple(value)


def _lists(value: Any, where: str) -> tuple[Indices, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise InputError(f"`{where}` must be a list of lists of integers", repr(value))
    lists = [_indices(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if None in lists:
        raise InputError(f"`{where}` must be a list of lists of integers", repr(value))
    return tuple(item for item in lists if item is not None)


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def full(config: Mapping[str, Any]) -> StudentArch:
    """The arch that keeps everything of a teacher, all fields explicit."""
    return full_of(read_shape(config))


def full_of(shape: UNetShape) -> StudentArch:
    """As `full`, from the normal form of a config."""
    stages = tuple(
        StageArch(
            width=shape.widths[s],
            down=tuple(range(len(shape.down[s]))),
            up=tuple(range(len(shape.up[s]))),
            down_transformers=tuple(tuple(range(depth)) for depth in shape.down[s]),
            up_transformers=tuple(tuple(range(depth)) for depth in shape.up[s]),
        )
        for s in range(shape.stages)
    )
    mid = shape.mid is not None
    return StudentArch(stages, mid, tuple(range(shape.mid or 0)) if mid else None)


@dataclass(frozen=True)
class _Preset:
    mid: bool
    removed_stages: int


# BK-SDM (Kim et al., arXiv 2305.15798). All drop the second pair of each down block and the
# middle pair of each up block; Small drops the mid block too; Tiny the innermost stage as well.
_PRESETS = {
    "bk-sdm-base": _Preset(mid=True, removed_stages=0),
    "bk-sdm-small": _Preset(mid=False, removed_stages=0),
    "bk-sdm-tiny": _Preset(mid=False, removed_stages=1),
}
PRESETS = tuple(_PRESETS)


def preset(name: str, config: Mapping[str, Any]) -> StudentArch:
    """A named arch for a teacher, all fields explicit.

    Args:
        name: one of `PRESETS`.
        config: the teacher's U-Net config; two pairs per down block, as in Stable Diffusion
            1.x, 2.x and XL and in the starter teacher.

    Raises:
        InputError: unknown name, or a teacher that the preset does not fit.
    """
    chosen = _PRESETS.get(name)
    if chosen is None:
        raise InputError(f"the preset must be one of {', '.join(PRESETS)}", repr(name))
    shape = read_shape(config)
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
    whole = full_of(shape)
    stages = tuple(
        StageArch(
            width=stage.width,
            down=(0,),
            up=(0, 2),
            down_transformers=(stage.down_transformers or ())[:1],
            up_transformers=(stage.up_transformers or ())[::2],
        )
        for stage in whole.stages[: shape.stages - chosen.removed_stages]
    )
    return StudentArch(stages, chosen.mid, whole.mid_transformers if chosen.mid else None)


def resolve_arch(section: StudentSection, config: Mapping[str, Any]) -> StudentArch:
    """The arch that a recipe asks for, checked against its teacher, all fields explicit.

    Args:
        section: `student` of a recipe: a preset's name or an arch.
        config: the teacher's U-Net config.

    Raises:
        InputError: see `preset`, `StudentArch.from_dict` and `edgekd.student.plan.make_plan`.
    """
    from edgekd.student.plan import resolve  # plan builds on this module

    if section.preset is not None:
        return resolve(preset(section.preset, config), config)
    return resolve(StudentArch.from_dict(section.arch or {}), config)
