"""Successive halving: short distillation of the finalists, longer for those that are left.

Jamieson & Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization",
2016, algorithm 1, with the rate `eta` of Li et al., "Hyperband", 2018:

    rung k = 0 ... K-1:  n_k = ceil(n / eta^k) candidates with the budget r_k = R / eta^(K-1-k)

The best n_{k+1} of rung k go on. Each rung costs about the same in all, `n R / eta^(K-1)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import Field

from edgekd.progress import Progress
from edgekd.schema import Section
from edgekd.search.candidate import Candidate
from edgekd.search.figures import KeptFigures


class HalvingSettings(Section):
    """How finalists are compared."""

    rungs: int = Field(3, ge=1, description="K; 1: all get the whole budget")
    eta: int = Field(2, ge=2, description="one in so many goes on to the next rung")
    budget: int = Field(..., ge=1, description="R, updates of the last rung")


@dataclass(frozen=True)
class Rung:
    """`count` candidates are evaluated with a budget each."""

    count: int
    budget: int


@dataclass(frozen=True)
class Finalist:
    """A candidate with the quality that it reached, and the budget that it had."""

    candidate: Candidate
    quality: float
    budget: int


class Evaluate(Protocol):
    """Distils candidates for `budget` updates each, and gives each with its quality, more is
    better, as they come."""

    def __call__(
        self, candidates: Sequence[Candidate], budget: int
    ) -> Iterable[tuple[Candidate, float]]: ...


def plan_rungs(count: int, settings: HalvingSettings) -> tuple[Rung, ...]:
    """The rungs for so many finalists; see the equation above.

    K is less than asked for where a rung would hold a single candidate, which needs no comparison
    with itself. The last rung always has the whole budget.
    """
    sizes = [-(-count // settings.eta**k) for k in range(settings.rungs)]
    sizes = sizes[:1] + [size for size in sizes[1:] if size > 1]
    last = len(sizes) - 1
    return tuple(
        Rung(size, max(settings.budget // settings.eta ** (last - k), 1))
        for k, size in enumerate(sizes)
        if size > 0
    )


def halve(
    finalists: Sequence[Candidate],
    evaluate: Evaluate,
    settings: HalvingSettings,
    kept: KeptFigures,
    progress: Progress,
) -> tuple[Finalist, ...]:
    """All finalists, the best first: those of a later rung stand before those of an earlier one.

    Args:
        finalists: the most promising first, which wins a tie.
        kept: results; its key stands for all that `evaluate` depends on.
    """
    left = tuple(finalists)
    rungs = plan_rungs(len(left), settings)
    ranked: tuple[Finalist, ...] = ()
    with progress.track("short distillation", sum(rung.count for rung in rungs)) as advance:
        for rung in rungs:
            chosen = left[: rung.count]
            names = {one.key(): f"{one.key()}/{rung.budget}" for one in chosen}
            missing = [one for one in chosen if names[one.key()] not in kept]
            advance(rung.count - len(missing), resumed=True)
            for candidate, quality in evaluate(missing, rung.budget):
                kept.keep(names[candidate.key()], quality)
                advance(1)
            results = [Finalist(one, kept[names[one.key()]], rung.budget) for one in chosen]
            results.sort(key=lambda one: -one.quality)
            ranked = (*results, *ranked[rung.count :])
            left = tuple(one.candidate for one in results)
    return ranked
