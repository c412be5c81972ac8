"""The plots of a report, as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgekd.metrics.metric import Descriptor
from edgekd.metrics.metric import Figure as Value
from edgekd.report.schema import Report, Row
from edgekd.report.svg import (
    GRID,
    INK,
    MARKERS,
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
    from matplotlib.figure import Figure

Points = Sequence[Sequence[float]]


@styled
def latency_quality(report: Report) -> Markup | None:
    """Metrics of pictures over the latency of one; None where no times were measured."""
    rows = [row for row in report.rows if row.speed]
    if not rows:
        return None
    colors = row_colors(report.rows)
    figure, panels = _metric_panels(report, 3.5)
    for panel, metric in panels:
        for index, row in enumerate(rows):
            value = row.value(metric.name)
            if value is None:
                continue
            low, high = row.speed["image"].p50_ms, row.speed["image"].p90_ms
            color, marker = colors[row.name], MARKERS[index % len(MARKERS)]
            panel.plot([low, high], [value] * 2, color=color, linewidth=1)
            panel.plot(low, value, marker, color=color, markersize=8, label=row.name)
        _mark_real(panel, report.real.get(metric.name))
        panel.set_xlim(left=0)
        panel.set_xlabel("latency per picture in ms: p50, whisker to p90")
        panel.set_title(f"{metric.label} ({metric.direction} is better)")
    legend_above(figure, panels[0][0])
    names = " and ".join(metric.label for _, metric in panels)
    return to_markup(figure, "latency-quality", f"{names} over latency for each row")


def _metric_panels(report: Report, height: float) -> tuple[Figure, list[tuple[Axes, Descriptor]]]:
    """A figure with a panel for each metric of pictures that is plotted."""
    metrics = [one for one in report.shown("plot") if one.source == "pictures"]
    figure, axes = new_figure(len(metrics), 1, (4.3 * len(metrics), height))
    return figure, list(zip(axes, metrics, strict=True))


def _mark_real(panel: Axes, real: Value | None) -> None:
    """A dotted line at the value of real images."""
    if real is None:
        return
    panel.axhline(real.value, color=REAL, linestyle=":", linewidth=1.5)
    panel.annotate(
        "real images",
        (1, real.value),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        color=MUTED,
    )


@styled
def quality_dots(report: Report) -> Markup:
    """Metrics of pictures as dots with error bars, for suites that time nothing."""
    rows = [row for row in report.rows if row.drawn]
    colors = row_colors(report.rows)
    figure, panels = _metric_panels(report, 0.9 + 0.42 * len(rows))
    for panel, metric in panels:
        for index, row in enumerate(rows):
            found = row.figures.get(metric.name)
            if found is not None:
                color = colors[row.name]
                panel.errorbar(found.value, -index, None, found.error, "o", color=color, ms=8)
        real = report.real.get(metric.name)
        if real is not None:
            panel.axvline(real.value, color=REAL, linestyle=":", linewidth=1.5)
        panel.set_yticks([-index for index in range(len(rows))], [row.name for row in rows])
        panel.set_ylim(-len(rows) + 0.4, 0.6)
        panel.set_title(f"{metric.label} ({metric.direction} is better; dotted: real images)")
    names = " and ".join(metric.label for _, metric in panels)
    return to_markup(figure, "quality-dots", f"{names} of each row")


@styled
def raw_latencies(report: Report) -> Markup | None:
    """Every measured picture of every row, and the p50; None where no times were measured."""
    rows = [row for row in report.rows if row.speed]
    if not rows:
        return None
    colors = row_colors(report.rows)
    figure, (panel,) = new_figure(1, 1, (8.6, 0.8 + 0.36 * len(rows)))
    for index, row in enumerate(rows):
        latency = row.speed["image"]
        samples = latency.samples_ms
        color = colors[row.name]
        panel.plot(samples, [-index] * len(samples), "o", color=color, alpha=0.55, markersize=5)
        panel.plot([latency.p50_ms] * 2, [-index - 0.3, -index + 0.3], color=color, linewidth=2)
    panel.set_yticks([-index for index in range(len(rows))], [row.name for row in rows])
    panel.set_xlim(left=0)
    panel.set_xlabel("ms per picture: every sample; bar: p50")
    return to_markup(figure, "raw-latencies", "All measured latencies of each row")


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
    terms = curve_terms(curves)
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
        _log_axis(panel, max(values) / min(values))


def _log_axis(panel: Axes, span: float) -> None:
    """Logarithmic y with plain numbers; the wider the span, the fewer of them a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if span < 6 else (1.0, 2.0, 5.0) if span < 200 else (1.0,)
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=subs))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


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


@styled
def projection(report: Report) -> Markup:
    """Features of reference images (grey), the prompts' images, teacher and student."""
    points: Mapping[str, Points] = report.projections[0].points
    colors = {"real": REAL, **row_colors(report.rows)}
    figure, (panel,) = new_figure(1, 1, (6.2, 4.6))
    for index, (name, pairs) in enumerate(points.items()):
        background = index == 0
        panel.plot(
            [p[0] for p in pairs],
            [p[1] for p in pairs],
            "o" if background else MARKERS[index % len(MARKERS)],
            color=GRID if background else colors.get(name, INK),
            alpha=0.9 if background else 0.75,
            markersize=3 if background else 5,
            label="images of the prompts" if name == "real" else name,
        )
    panel.set_xticks([])
    panel.set_yticks([])
    panel.grid(visible=False)
    legend_above(figure, panel)
    method = report.projections[0].method
    return to_markup(figure, "projection", f"{method} of image features: real, teacher, student")
