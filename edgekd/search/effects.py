"""What a student's U-Net loses by each change of a search space, and by changes together.

Damage is measured without training (`edgekd.search.agreement`): of every single change of the
teacher, and of pairs of neighbouring changes. It is composed for all other candidates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field
from torch import Tensor

from edgekd.errors import InputError
from edgekd.files import code_key, hash_value, write_json
from edgekd.progress import Progress
from edgekd.reading import read_json
from edgekd.schema import Section, validate
from edgekd.search.agreement import Calibration
from edgekd.search.candidate import Candidate
from edgekd.student.arch import StudentArch
from edgekd.student.build import build_student

Choice = str | int | float | bool
Change = tuple[str, Choice]  # a dimension, and what was chosen there instead of the teacher's own


class EffectSettings(Section):
    """How much is measured."""

    pairs: int = Field(
        64, ge=0, description="neighbouring changes that are measured together, the largest first"
    )


class ChoiceSpace(Protocol):
    """What the proxy needs to know of a search space.

    The first choice of each dimension is the teacher's own.
    """

    @property
    def dimensions(self) -> Mapping[str, tuple[Choice, ...]]: ...

    def candidate(self, choices: Mapping[str, Choice]) -> Candidate: ...

    def choices(self, candidate: Candidate) -> Mapping[str, Choice]:
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


class DamageRecord(Section):
    """File of measured damage: by the hash of a `StudentArch`."""

    key: str
    damage: dict[str, float]
    seal: str = Field(..., description="hash of the damage: a changed figure is no measurement")


class DamageMeter:
    """Measures students of one teacher, each once: results are kept on disk as they come.

    Args:
        unet: the teacher's.
        folder: of the results; those of another teacher, calibration set or code stay apart.
    """

    def __init__(self, unet: Any, calibration: Calibration, folder: Path) -> None:
        self._unet = unet
        self._calibration = calibration
        self._key = hash_value([code_key(), calibration.key])
        self._path = folder / f"damage-{self._key[:16]}.json"
        self._known = self._read()
        self._teacher: Tensor | None = None

    def knows(self, arch: StudentArch) -> bool:
        """Whether it need not be measured."""
        return _arch_key(arch) in self._known

    def damage(self, arch: StudentArch) -> float:
        """Of the student that distillation starts from.

        Raises:
            InputError: its predictions are not finite.
        """
        key = _arch_key(arch)
        if key not in self._known:
            self._known[key] = self._measure(arch)
            self._write()
        return self._known[key]

    def _measure(self, arch: StudentArch) -> float:
        if self._teacher is None:
            self._teacher = self._calibration.predict(self._unet)
        # Frozen like the teacher: torch takes other kernels where weights want gradients.
        student = build_student(self._unet, arch).requires_grad_(False)
        damage = self._calibration.damage(self._calibration.predict(student), self._teacher)
        if not math.isfinite(damage):
            raise InputError(
                "a U-Net must predict finite numbers to be compared with its teacher",
                f"{damage} for {arch.model_dump_json()}",
            )
        return damage

    def _read(self) -> dict[str, float]:
        """What is on disk; nothing of a file that is damaged."""
        if not self._path.exists():
            return {}
        try:
            record = validate(DamageRecord, read_json(self._path), f"`{self._path}`")
        except InputError:
            return {}
        whole = record.key == self._key and record.seal == hash_value(record.damage)
        return dict(record.damage) if whole else {}

    def _write(self) -> None:
        known = self._known
        record = DamageRecord(key=self._key, damage=known, seal=hash_value(known))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._path, record.model_dump())


def _arch_key(arch: StudentArch) -> str:
    return hash_value(arch.model_dump())


def measure_effects(
    meter: DamageMeter, space: ChoiceSpace, settings: EffectSettings, progress: Progress
) -> Effects:
    """Damage of every single change of the space, and of the worst pairs of neighbours.

    Changes are neighbours in one stage, in stages that follow each other, and in the innermost
    stage and the mid block. Pairs are taken in falling order of the product of their parts'
    damage: what does nothing alone has little to interact with.
    """
    archs = {change: space.candidate(_with(space, change)).arch for change in _changes(space)}
    teacher = space.candidate(_with(space)).arch
    archs = {change: arch for change, arch in archs.items() if arch != teacher}
    with progress.track("damage of single changes", len(archs)) as advance:
        single = {}
        for change, arch in archs.items():
            known = meter.knows(arch)
            single[change] = meter.damage(arch)
            advance(1, resumed=known)
    places = {change: _places(arch, teacher) for change, arch in archs.items()}
    pairs = [
        (one, other)
        for one, other in combinations(archs, 2)
        if one[0] != other[0] and _adjacent(places[one], places[other])
    ]
    pairs.sort(key=lambda pair: -single[pair[0]] * single[pair[1]])
    del pairs[settings.pairs :]
    with progress.track("damage of pairs of changes", len(pairs)) as advance:
        joint = {}
        for pair in pairs:
            arch = space.candidate(_with(space, *pair)).arch
            known = meter.knows(arch)
            joint[pair] = meter.damage(arch)
            advance(1, resumed=known)
    return Effects(single, joint)


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
