"""What a student's U-Net loses by each change of a search space, and by changes together.

Damage is measured without training (`edgekd.search.agreement`): of every single change of the
teacher, and of pairs of neighbouring changes. It is composed for all other candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import Field
from torch import Tensor

from edgekd.files import code_key, hash_value
from edgekd.progress import Progress
from edgekd.schema import Section
from edgekd.search.agreement import Calibration
from edgekd.search.candidate import Candidate
from edgekd.search.dimensions import Choice, Choices
from edgekd.search.figures import KeptFigures
from edgekd.student.arch import StudentArch
from edgekd.student.build import build_student
from edgekd.student.importance import Importance

Change = tuple[str, Choice]  # a dimension, and what was chosen there instead of the teacher's own
Key = TypeVar("Key", Change, tuple[Change, Change])


class EffectSettings(Section):
    """How much is measured.

    Changes are neighbours in one stage, in stages that follow each other, and in the innermost
    stage and the mid block. Pairs of them are measured in falling order of the product of their
    own damage.
    """

    pairs: int = Field(40, ge=0, description="most students with two changes that are measured")


class ChoiceSpace(Protocol):
    """What the proxy needs to know of a search space.

    The first choice of each dimension is the teacher's own.
    """

    @property
    def dimensions(self) -> Mapping[str, tuple[Choice, ...]]: ...

    def candidate(self, choices: Choices) -> Candidate: ...

    def choices(self, candidate: Candidate) -> Choices:
        """Choices that give a candidate; the teacher's own where a dimension has no effect."""


@dataclass(frozen=True)
class Effects:
    """Measured damage.

    Attributes:
        single: of one change.
        joint: of two changes together, in the order of the space's dimensions.
    """

    single: Mapping[Change, float]
    joint: Mapping[tuple[Change, Change], float]


def compose(changes: Sequence[Change], effects: Effects) -> float:
    """Damage of changes made together: `sum_i D_i + sum_{i<j} (D_ij - D_i - D_j)`.

    The second sum runs over measured pairs. The result is at least the largest damage measured
    of any part: interactions of three are not known, and their lack must not mend a student.

    Args:
        changes: in the order of the space's dimensions.
    """
    single = effects.single
    known = [single[change] for change in changes]
    total, largest = sum(known), max(known, default=0.0)
    for pair in combinations(changes, 2):
        damage = effects.joint.get(pair)
        if damage is not None:
            total += damage - single[pair[0]] - single[pair[1]]
            largest = max(largest, damage)
    return max(total, largest)


class DamageMeter:
    """Measures students of one teacher, each once: results are kept on disk as they come.

    Args:
        unet: the teacher's.
        folder: of the results; those of another teacher, calibration set or code stay apart.
    """

    def __init__(self, unet: Any, calibration: Calibration, folder: Path) -> None:
        self._unet = unet
        self._calibration = calibration
        key = hash_value([code_key(), calibration.key])
        self._kept = KeptFigures(folder / f"damage-{key[:16]}.json", key)

    @cached_property
    def _teacher(self) -> Tensor:
        return self._calibration.predict(self._unet)

    @cached_property
    def _importance(self) -> Importance:
        return self._calibration.importance(self._unet)

    def knows(self, arch: StudentArch) -> bool:
        """Whether it need not be measured."""
        return _arch_key(arch) in self._kept

    def damage(self, arch: StudentArch) -> float:
        """Of the student that distillation starts from."""
        return self._kept.get(_arch_key(arch), lambda: self._measure(arch))

    def _measure(self, arch: StudentArch) -> float:
        # Frozen like the teacher: torch takes other kernels where weights want gradients.
        student = build_student(self._unet, arch, self._importance).requires_grad_(False)
        return self._calibration.damage(self._calibration.predict(student), self._teacher)


def _arch_key(arch: StudentArch) -> str:
    return hash_value(arch.model_dump())


def measure_effects(
    meter: DamageMeter, space: ChoiceSpace, settings: EffectSettings, progress: Progress
) -> Effects:
    """Damage of every single change of the space, and of the worst pairs of neighbours."""
    teacher = space.candidate(_with(space)).arch
    archs = {change: space.candidate(_with(space, change)).arch for change in _changes(space)}
    archs = {change: arch for change, arch in archs.items() if arch != teacher}
    single = _measure_all(meter, archs, "damage of single changes", progress)
    places = {change: _places(arch, teacher) for change, arch in archs.items()}
    neighbours = [
        (one, other)
        for one, other in combinations(archs, 2)
        if one[0] != other[0] and _adjacent(places[one], places[other])
    ]
    # What does nothing alone has little to interact with.
    neighbours.sort(key=lambda pair: -single[pair[0]] * single[pair[1]])
    pairs = {pair: space.candidate(_with(space, *pair)).arch for pair in neighbours}
    pairs = _first(pairs, settings.pairs, {_arch_key(arch) for arch in archs.values()})
    return Effects(single, _measure_all(meter, pairs, "damage of pairs of changes", progress))


def _measure_all(
    meter: DamageMeter, archs: Mapping[Key, StudentArch], label: str, progress: Progress
) -> dict[Key, float]:
    found = {}
    with progress.track(label, len(archs)) as advance:
        for key, arch in archs.items():
            known = meter.knows(arch)
            found[key] = meter.damage(arch)
            advance(1, resumed=known)
    return found


def _first(
    archs: Mapping[Key, StudentArch], count: int, measured: set[str]
) -> dict[Key, StudentArch]:
    """As many as cost `count` measurements; those that repeat a measured student cost none."""
    found, known = {}, set(measured)
    for key, arch in archs.items():
        name = _arch_key(arch)
        if name in known or len(known) < len(measured) + count:
            known.add(name)
            found[key] = arch
    return found


def _changes(space: ChoiceSpace) -> Iterator[Change]:
    for name, options in space.dimensions.items():
        for choice in options[1:]:
            yield name, choice


def _with(space: ChoiceSpace, *changes: Change) -> dict[str, Choice]:
    """The teacher's own choices, but for some changes."""
    own = {name: options[0] for name, options in space.dimensions.items()}
    return {**own, **dict(changes)}


def _places(arch: StudentArch, teacher: StudentArch) -> set[int]:
    """Numbers of the stages that differ; the mid block counts as the one after the innermost."""
    count = len(teacher.stages)
    stages = {
        s for s, own in enumerate(teacher.stages) if s >= len(arch.stages) or arch.stages[s] != own
    }
    mid = (arch.mid, arch.mid_transformers) != (teacher.mid, teacher.mid_transformers)
    return stages | ({count} if mid else set())


def _adjacent(one: set[int], other: set[int]) -> bool:
    return any(abs(a - b) <= 1 for a in one for b in other)
