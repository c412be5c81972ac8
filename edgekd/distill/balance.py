"""How much each loss term counts, and when.

Everything here is a function of the recipe, of the student's first weights and of how far the
training is: a resumed run weighs as an uninterrupted one, and no checkpoint holds a weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# Below this a term has nothing to say about its scale, as of a student that equals its teacher.
SMALLEST = 1e-8


def initial_scales(values: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """`1 / L_i(0)` for each term, from its values before training on some batches.

    Terms then count by their weights and not by the units of what they compare; L_i(0) is the
    reference of GradNorm too (Chen et al. 2018, section 3.2). A term that starts at 0 is left
    as it is.
    """
    rows = list(values)
    means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    return {name: 1 / mean if mean > SMALLEST else 1.0 for name, mean in means.items()}


def hint_factor(progress: float, until: float | None) -> float:
    """`(1 + cos(pi p / u)) / 2` while the progress p is below u, then 0; 1 without u.

    Terms inside a U-Net are hints (FitNets, Romero et al. 2015): they lead a student to where
    its own loss can take over, and hold it back there, as it has not the teacher's capacity.
    """
    if until is None:
        return 1.0
    return (1 + math.cos(math.pi * min(1.0, progress / until))) / 2


@dataclass(frozen=True)
class Balance:
    """Weights of the terms over a training.

    Attributes:
        weights: the recipe's.
        hints: names of terms inside the U-Net.
        hints_until: see `hint_factor`.
        scales: see `initial_scales`; terms that are not in it count as they are.
    """

    weights: Mapping[str, float]
    hints: frozenset[str]
    hints_until: float | None
    scales: Mapping[str, float]

    def at(self, progress: float) -> dict[str, float]:
        """Factors of the raw terms at a part in [0, 1] of the training."""
        hint = hint_factor(progress, self.hints_until)
        return {
            name: weight * self.scales.get(name, 1.0) * (hint if name in self.hints else 1.0)
            for name, weight in self.weights.items()
        }
