"""Bounds on the deployed student: the recipe's quality floor, the target's budgets.

A budget has the name of its metric (`latency_ms`), a floor is on the ratio to the teacher:
`max_fd_ratio`, or `min_score_ratio` where higher is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekd.errors import GateError, InputError
from edgekd.recipe import Bounds, Recipe
from edgekd.target import Target

if TYPE_CHECKING:
    from edgekd.metrics.metric import Descriptor
    from edgekd.report.schema import Headline, Row, Values


@dataclass(frozen=True)
class Gate:
    """One bound on a metric of the student, or on its ratio to the teacher."""

    name: str
    metric: Descriptor
    on_ratio: bool
    bound: float

    def check(self, headline: Headline, report: Path) -> None:
        """Raise GateError unless the value is there and within the bound."""
        values: Values = (headline.ratios if self.on_ratio else headline.student) or {}
        value = values.get(self.metric.name)
        upper = self.metric.direction == "lower"
        if value is not None and (value <= self.bound if upper else value >= self.bound):
            return
        raise GateError(
            f"`{self.name}`: {'<=' if upper else '>='} {self.bound} must hold",
            "no measurement" if value is None else f"{value:.6g}",
            f"The report is in {report}.",
        )


def gates(recipe: Recipe, target: Target, metrics: Sequence[Descriptor]) -> list[Gate]:
    """The gates of a run.

    Raises:
        InputError: a bound on something that is no metric.
    """
    ratios = {
        f"{'max' if one.direction == 'lower' else 'min'}_{one.name}_ratio": one for one in metrics
    }
    values = {one.name: one for one in metrics}
    return [
        *_gates("quality_floor", recipe.quality_floor, ratios, on_ratio=True),
        *_gates("budgets", target.budgets, values, on_ratio=False),
    ]


def _gates(
    section: str, bounds: Bounds, known: dict[str, Descriptor], on_ratio: bool
) -> list[Gate]:
    unknown = [name for name in bounds if name not in known]
    if unknown:
        raise InputError(
            f"`{section}` takes {', '.join(sorted(known))}", f"unknown key `{unknown[0]}`"
        )
    return [
        Gate(f"{section}.{name}", known[name], on_ratio, bound)
        for name, bound in bounds.items()
        if bound is not None
    ]


def check_gates(plan_gates: Sequence[Gate], headline: Headline, report: Path) -> None:
    """Hold the deployed student against every bound.

    Raises:
        GateError: the first that is not met.
    """
    for gate in plan_gates:
        gate.check(headline, report)


def failed_rows(rows: Sequence[Row]) -> dict[str, str]:
    """Why rows of a report failed, by name."""
    return {row.name: row.failed for row in rows if row.failed}


def check_rows(failed: Mapping[str, str], report: Path) -> None:
    """Every row of a benchmark must have been made and measured.

    Raises:
        GateError: with all that failed, and why.
    """
    if failed:
        raise GateError(
            "every row of a benchmark must be made and measured",
            "; ".join(f"`{name}`: {reason}" for name, reason in failed.items()),
            f"The report is in {report}.",
        )
