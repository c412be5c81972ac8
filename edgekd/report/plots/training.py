"""Losses over the steps of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgekd.report.plots.axes import log_axis
from edgekd.report.schema import Row
from edgekd.report.svg import (
    MUTED,
    REAL,
    SERIES,
    legend_above,
    new_figure,
    row_colors,
    styled,
    to_markup,
)

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

Points = Sequence[Sequence[float]]

_LOSS = {"loss": "loss (sum of weighted terms)"}
_FEW_STEP = {"trajectory": "few steps: teacher's trajectory"}
_VALIDATION = {
    "validation_task": "validation, task",
    "validation_output": "validation, output",
    "validation_picture": "validation, few-step picture",
    "validation_step": "validation, mean over steps",
}
# Term -> the teacher's own figure, drawn as a line in the same panel.
_TEACHER_LINES = {"validation_task": "validation_teacher_task"}
_OTHER = {"lr", "learning_rate", "grad_norm"}


def curve_terms(curves: Mapping[str, Mapping[str, Points]]) -> list[tuple[str, str]]:
    """Which terms are plotted, in order, with their titles: those that any curve has."""
    from edgekd.distill.terms.registry import titles

    present = {term for curve in curves.values() for term, points in curve.items() if points}
    known = {**_LOSS, **titles(present), **_FEW_STEP, **_VALIDATION}
    others = present - set(known) - _OTHER - set(_TEACHER_LINES.values())
    extra = sorted(term for term in others if not term.endswith("_weighted"))
    shown = [(term, title) for term, title in known.items() if term in present]
    return shown + [(term, term.replace("_", " ")) for term in extra]


def curve_colors(curves: Sequence[str], rows: Sequence[Row]) -> dict[str, str]:
    """A run has the colour of the first row whose name holds the run's first word."""
    of_row = row_colors(rows)
    left = iter([color for color in SERIES if color not in of_row.values()])
    colors = {}
    for name in curves:
        owners = [row for row in of_row if row == name or name.split()[0] in row.split()]
        colors[name] = of_row[owners[0]] if owners else next(left, SERIES[-1])
    return colors


@styled
def loss_curves(
    curves: Mapping[str, Mapping[str, Points]], rows: Sequence[Row] = ()
) -> Markup | None:
    """Small multiples, one per term, all runs in each; logarithmic where the values allow it.

    Args:
        rows: of the report, for colours that agree with the other plots.
    """
    terms = curve_terms(curves) if curves else []  # what terms there are takes torch to know
    if not terms:
        return None
    columns = min(3, len(terms))
    lines = -(-len(terms) // columns)
    figure, axes = new_figure(columns, lines, (2.9 * columns, 0.4 + 2.2 * lines))
    colors = curve_colors(list(curves), rows)
    for panel, (term, title) in zip(axes, terms, strict=False):
        _plot_term(panel, term, curves, colors)
        panel.set_title(title)
        panel.set_xlabel("step")
    for panel in axes[len(terms) :]:
        panel.set_visible(False)
    if len(curves) > 1:
        legend_above(figure, axes[0])
    return to_markup(figure, "loss-curves", "Training and validation losses over steps")


def _plot_term(
    panel: Axes, term: str, curves: Mapping[str, Mapping[str, Points]], colors: dict[str, str]
) -> None:
    values: list[float] = []
    for name, curve in curves.items():
        points = curve.get(term, [])
        if points:
            x, y = [p[0] for p in points], [p[1] for p in points]
            values += y
            _plot_curve(panel, x, y, colors[name], name)
    teacher = [p for curve in curves.values() for p in curve.get(_TEACHER_LINES.get(term, ""), [])]
    if teacher:
        level = teacher[-1][1]
        values.append(level)
        panel.margins(y=0.12)
        panel.axhline(level, color=REAL, linestyle=":", linewidth=1.5)
        panel.annotate(
            "teacher",
            (1, level),
            xycoords=("axes fraction", "data"),
            xytext=(0, -9),
            textcoords="offset points",
            ha="right",
            color=MUTED,
        )
    if min(values) > 0:
        log_axis(panel, "y", max(values) / min(values))


def _plot_curve(panel: Axes, x: list[float], y: list[float], color: str, name: str) -> None:
    if len(x) < 30:
        panel.plot(x, y, "o-", color=color, markersize=3, linewidth=1.5, label=name)
        return
    panel.plot(x, y, color=color, linewidth=0.7, alpha=0.3)
    panel.plot(x, smooth(y), color=color, linewidth=1.6, label=name)


def smooth(values: Sequence[float], keep: float = 0.8) -> list[float]:
    """Exponential moving averages from both ends, averaged: a falling curve does not lag."""
    forward = _moving_average(values, keep)
    backward = _moving_average(values[::-1], keep)[::-1]
    return [(a + b) / 2 for a, b in zip(forward, backward, strict=True)]


def _moving_average(values: Sequence[float], keep: float) -> list[float]:
    """Exponential moving average, corrected for its start at zero."""
    result, mean, weight = [], 0.0, 0.0
    for value in values:
        mean = keep * mean + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        result.append(mean / weight)
    return result
