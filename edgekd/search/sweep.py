"""A seeded evolutionary sweep: tens of thousands of candidates, scored in memory.

Global SEMO (Laumanns, Thiele & Zitzler, IEEE TEC 8(2), 2004; Giel, CEC 2003): the population is
the front of all that was scored. A parent is drawn from it, each dimension changes with
probability 1/n, and the child stays if nothing dominates it. Half of the children take every
dimension from one of two parents first (uniform crossover).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from edgekd.search.candidate import Scored
from edgekd.search.front import loss_values, non_dominated, thin
from edgekd.search.scoring import Dimensions, Setting

ROUND = 256  # children between two updates of the front
_RANDOM = 0.1  # share of children drawn from the whole space: no region is ever out of reach


class Sweep:
    """The population of one sweep; `points` is its front.

    Args:
        score: of a setting; its own memo makes a second call for an equal one cheap.
        start: settings to begin with, scored first.
    """

    def __init__(
        self,
        dimensions: Dimensions,
        score: Callable[[Setting], Scored],
        seed: int,
        start: Sequence[Setting] = (),
    ) -> None:
        self._names = list(dimensions)
        self._values = [dimensions[name] for name in self._names]
        self._sizes = np.array([len(values) for values in self._values])
        self._score = score
        self._random = np.random.default_rng(seed)
        self._rows = np.zeros((0, len(self._names)), dtype=np.int64)
        self._losses = np.zeros((0, 3))
        self.points: list[Scored] = []
        self._add(self._row(setting) for setting in start)

    def spread(self, count: int) -> list[tuple[Setting, Scored]]:
        """At most `count` points of the front that stand for all of it.

        Three quarters are of the front of latency and quality alone, in which the choice is made.
        """
        if not self.points:
            return []
        plane = [self.points[row] for row in non_dominated(self._losses[:, :2])]
        first = thin(plane, 3 * count // 4)
        chosen = {id(one) for one in thin(self.points, count, first)}
        return [
            (self._setting(row), one)
            for row, one in zip(self._rows.tolist(), self.points, strict=True)
            if id(one) in chosen
        ]

    def round(self, count: int = ROUND) -> int:
        """Score a round of children; how many."""
        return self._add(self._children(count))

    def _add(self, rows: Iterator[Sequence[int]]) -> int:
        new = list(rows)
        if not new:
            return 0
        scored = [self._score(self._setting(row)) for row in new]
        points = [*self.points, *scored]
        losses = np.concatenate([self._losses, loss_values(scored)])
        kept = non_dominated(losses)
        self.points = [points[row] for row in kept]
        self._rows = np.concatenate([self._rows, np.array(new)])[kept]
        self._losses = losses[kept]
        return len(new)

    def _children(self, count: int) -> Iterator[Sequence[int]]:
        random = self._random
        fresh = random.integers(0, self._sizes, size=(count, len(self._sizes)))
        if not len(self._rows):
            yield from fresh.tolist()
            return
        mother, father = self._rows[random.integers(0, len(self._rows), size=(2, count))]
        crossed = random.random(fresh.shape) < 0.5 * (random.random((count, 1)) < 0.5)
        children = np.where(crossed, father, mother)
        mutated = random.random(fresh.shape) < 1 / len(self._sizes)
        mutated |= random.random((count, 1)) < _RANDOM
        yield from np.where(mutated, fresh, children).tolist()

    def _row(self, setting: Setting) -> list[int]:
        return [
            values.index(setting[name])
            for name, values in zip(self._names, self._values, strict=True)
        ]

    def _setting(self, row: Sequence[int]) -> Setting:
        return {
            name: values[index]
            for name, values, index in zip(self._names, self._values, row, strict=True)
        }
