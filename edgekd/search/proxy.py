"""The quality that a student is expected to have after distillation, without training it.

Damage of its U-Net is composed from measured effects (`edgekd.search.effects`) and mapped to what
distillation is expected to leave of it. Steps, decoder and precision come from measured tables
(`edgekd.search.tables`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from edgekd.search.candidate import Candidate
from edgekd.search.effects import ChoiceSpace, Effects, compose
from edgekd.search.tables import QualityTables
from edgekd.student.arch import StudentArch

# Of an intact student: `kd` would teach it what it can do.
INTACT_DAMAGE = 0.01


def kept_after_distillation(damage: float, slope: float) -> float:
    """`exp(-slope * damage)`: 1 for the teacher itself."""
    return math.exp(-slope * damage)


class Proxy:
    """Expected quality of the candidates of one space.

    Args:
        effects: see `measure_effects`.
        share: of the teacher's U-Net's parameters that an architecture keeps.
    """

    def __init__(
        self,
        space: ChoiceSpace,
        effects: Effects,
        tables: QualityTables,
        share: Callable[[StudentArch], float],
    ) -> None:
        self._space = space
        self._share = share
        self._effects = effects
        self._tables = tables
        self._own = {name: options[0] for name, options in space.dimensions.items()}
        self._drawing: dict[tuple[float, int, str], float] = {}

    @property
    def measured(self) -> str:
        """Where the tables were measured, in words."""
        return self._tables.measured

    def damage(self, candidate: Candidate) -> float:
        """Of the candidate's U-Net, as composed."""
        chosen = self._space.choices(candidate)
        single = self._effects.single
        changes = [
            (name, chosen[name])
            for name, own in self._own.items()
            if chosen[name] != own and (name, chosen[name]) in single
        ]
        return compose(changes, self._effects)

    def is_intact(self, candidate: Candidate) -> bool:
        """Whether the candidate's U-Net predicts as its teacher's."""
        return self.damage(candidate) < INTACT_DAMAGE

    def quality(self, candidate: Candidate) -> float:
        """Share of the teacher's quality that the candidate is expected to keep, in (0, 1]."""
        tables = self._tables
        kept = kept_after_distillation(self.damage(candidate), tables.slope)
        capacity = math.pow(self._share(candidate.arch), tables.capacity)
        return kept * capacity * self._kept_by_drawing(candidate)

    def _kept_by_drawing(self, candidate: Candidate) -> float:
        way = (candidate.decoder_width, candidate.steps, candidate.precision)
        if way not in self._drawing:
            tables = self._tables
            self._drawing[way] = (
                tables.of_decoder(candidate.decoder_width)
                * tables.of_steps(candidate.steps)
                * tables.of_precision(candidate.precision)
            )
        return self._drawing[way]
