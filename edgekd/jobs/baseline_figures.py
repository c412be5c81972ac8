"""What rules of choosing a student are worth at equal latency, from the figures of trained ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from edgekd.schema import Section

SEARCHED = "searched"


class Rival(Section):
    """One trained student of one rule.

    Attributes:
        preset: at whose latency it was chosen.
        rule: `preset`, `searched`, `macs`, `parameters` or `random`.
        student: begin of its candidate's key; several rules may have chosen one student.
        latency_ms: of a picture, its U-Net measured whole.
        expected: share of the teacher's quality that the search expected of it.
    """

    preset: str
    rule: str
    student: str
    seed: int
    latency_ms: float
    expected: float
    score: float | None
    fd: float | None


Figure = Callable[[Rival], float | None]
# Name, whether more of it is better (1) or worse (-1), and where it is.
_FIGURES: Sequence[tuple[str, int, Figure]] = (
    ("score", 1, lambda one: one.score),
    ("FD", -1, lambda one: one.fd),
)


class Baselines(Section):
    """All of `baselines.json`.

    Attributes:
        failed: why students could not be measured, by row.
    """

    suite: str
    rivals: list[Rival]
    environment: dict[str, object]
    failed: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """One rule at one preset's latency: means over seeds and their standard errors."""

    preset: str
    rule: str
    latency_ms: float
    score: tuple[float, float]
    fd: tuple[float, float]


def _mean(values: Sequence[float | None]) -> tuple[float, float]:
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return (known[0] if known else math.nan), math.nan
    return float(np.mean(known)), float(np.std(known, ddof=1) / math.sqrt(len(known)))


def summaries(rivals: Sequence[Rival]) -> list[Summary]:
    """By preset and rule, in the order in which they come."""
    groups: dict[tuple[str, str], list[Rival]] = {}
    for one in rivals:
        groups.setdefault((one.preset, one.rule), []).append(one)
    return [
        Summary(
            preset,
            rule,
            float(np.mean([one.latency_ms for one in members])),
            _mean([one.score for one in members]),
            _mean([one.fd for one in members]),
        )
        for (preset, rule), members in groups.items()
    ]


def verdicts(rivals: Sequence[Rival]) -> list[str]:
    """For each preset: which rules beat the search in score or FD at its latency, if any.

    By how much, with the standard error over seeds of the difference from the search's student.
    """
    lines = []
    for preset in dict.fromkeys(one.preset for one in rivals):
        here = [one for one in rivals if one.preset == preset]
        own = {one.seed: one for one in here if one.rule == SEARCHED}
        others = dict.fromkeys(one.rule for one in here if one.rule != SEARCHED)
        leads = {
            (rule, name): _mean([_lead(one, own, sign, figure) for one in here if one.rule == rule])
            for rule in others
            for name, sign, figure in _FIGURES
        }
        found = [
            f"{rule} has the better {name}, by {mean:.1f} ± {error:.1f}"
            for (rule, name), (mean, error) in leads.items()
            if mean > 0
        ]
        unknown = [
            f"{rule} cannot be compared by {name}, figures are missing"
            for (rule, name), (mean, _) in leads.items()
            if math.isnan(mean)
        ]
        verdict = "; ".join([*found, *unknown]) or "the searched student is the best of all rules"
        lines.append(f"at the latency of {preset}: {verdict}")
    return lines


def _lead(one: Rival, own: Mapping[int, Rival], sign: int, figure: Figure) -> float | None:
    """How far a rival is ahead of the search's student of its seed; None: not measured."""
    mine, its = figure(own[one.seed]) if one.seed in own else None, figure(one)
    return None if mine is None or its is None else sign * (its - mine)


def rank_correlation(rivals: Sequence[Rival], figure: Figure) -> tuple[int, float]:
    """Students, and Spearman's correlation of what was expected of them with their mean figures.

    NaN: fewer than three students, or all are equal.
    """
    from scipy.stats import spearmanr

    expected = {one.student: one.expected for one in rivals}
    measured = {
        name: _mean([figure(one) for one in rivals if one.student == name])[0] for name in expected
    }
    known = [name for name in expected if not math.isnan(measured[name])]
    told, found = [expected[name] for name in known], [measured[name] for name in known]
    if len(known) < 3 or not (np.ptp(told) and np.ptp(found)):
        return len(known), math.nan
    return len(known), float(spearmanr(told, found).statistic)


def _rank_lines(rivals: Sequence[Rival]) -> list[str]:
    found = {name: rank_correlation(rivals, figure) for name, _, figure in _FIGURES}
    return [
        f"expected quality of {count} students: rank correlation {rank:+.2f} with {name}"
        for name, (count, rank) in found.items()
        if not math.isnan(rank)
    ]


def baseline_lines(found: Baselines) -> list[str]:
    """A table of all rules, a verdict for each preset, and what the expectations were worth."""
    rows = summaries(found.rivals)
    seeds = len({one.seed for one in found.rivals})
    lines = [f"{'at':<14}{'rule':<12}{'ms':>8}{'score':>16}{'FD':>16}   ({seeds} seeds)"]
    lines += [
        f"{one.preset:<14}{one.rule:<12}{one.latency_ms:>8.1f}"
        f"{one.score[0]:>9.1f} ± {one.score[1]:<4.1f}{one.fd[0]:>9.0f} ± {one.fd[1]:<4.0f}"
        for one in rows
    ]
    return [*lines, *verdicts(found.rivals), *_rank_lines(found.rivals)]
