"""Quality of pictures, alone and over what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekd.metrics.metric import Descriptor, Direction
from edgekd.metrics.metric import Figure as Value
from edgekd.report.plots.axes import latency_axis
from edgekd.report.ratios import floor
from edgekd.report.schema import HERE, Report, Row
from edgekd.report.svg import (
    GRID,
    INK,
    MUTED,
    PAGE,
    REAL,
    SERIES,
    STUDENT_SERIES,
    new_figure,
    row_colors,
    row_markers,
    rows_legend,
    styled,
    to_markup,
)
from edgekd.search.plot import FrontColors, plot_front
from edgekd.search.result import front_points

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS_IN_LINE = 2


def pareto(points: Sequence[tuple[float, float]], direction: Direction) -> list[int]:
    """Indices of the points (cost, quality) that none beats in both, cheapest first."""
    sign = 1 if direction == "lower" else -1
    found: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], sign * points[i][1])):
        if not found or sign * points[index][1] < sign * points[found[-1]][1]:
            found.append(index)
    return found


@styled
def latency_quality(report: Report, device: str = HERE) -> Markup | None:
    """Metrics of pictures over the latency of one on a device; rows that none beats in both are
    joined. None without times or without a plotted metric."""
    rows = [row for row in report.rows if row.device == device and "image" in row.speed]
    metrics = _plotted(report)
    if not rows or not metrics:
        return None
    figure, panels = _metric_panels(metrics, 3.4)
    colors, markers = row_colors(report.rows), row_markers(report.rows)
    for panel, metric in panels:
        shown = [(row, value) for row in rows if (value := row.value(metric.name)) is not None]
        _join_best(panel, shown, metric)
        for row, value in shown:
            low, color = _latency(row), colors[row.name]
            high = max(low, row.speed["image"].p90_ms)
            panel.plot([low, high], [value] * 2, color=color, linewidth=1)
            panel.plot(low, value, markers[row.name], color=color, markersize=7)
        _mark_real(panel, floor(report, metric.name))
        latency_axis(panel, [_latency(row) for row in rows])
        panel.set_xlabel("latency per picture in ms: p50, whisker to p90")
        panel.set_title(f"{metric.label} ({metric.direction} is better)")
    rows_legend(figure, rows, report.rows)
    names = " and ".join(metric.label for _, metric in panels)
    best = "; the line joins rows that none beats in both"
    return to_markup(figure, f"quality {device}", f"{names} over latency for each row{best}")


def _latency(row: Row) -> float:
    """The figure of the matrix, which stands for the median on a busy machine."""
    value = row.value("latency_ms")
    return row.speed["image"].p50_ms if value is None else value


def _join_best(panel: Axes, shown: Sequence[tuple[Row, float]], metric: Descriptor) -> None:
    points = [(_latency(row), value) for row, value in shown]
    best = [points[index] for index in pareto(points, metric.direction)]
    panel.step(
        [x for x, _ in best], [y for _, y in best], where="post", color=MUTED, lw=1, alpha=0.6
    )


def _plotted(report: Report) -> list[Descriptor]:
    """Metrics of pictures that are plotted and that a row has; none in a run that was stopped
    early."""
    return [
        one
        for one in report.shown("plot")
        if one.source == "pictures" and any(row.value(one.name) is not None for row in report.rows)
    ]


def _metric_panels(
    metrics: Sequence[Descriptor], height: float
) -> tuple[Figure, list[tuple[Axes, Descriptor]]]:
    """A figure with a panel for each metric."""
    columns = min(_PANELS_IN_LINE, len(metrics))
    lines = -(-len(metrics) // columns)
    figure, axes = new_figure(columns, lines, (4.3 * columns, height * lines))
    for panel in axes[len(metrics) :]:
        panel.set_visible(False)
    return figure, list(zip(axes, metrics, strict=False))


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
def quality_dots(report: Report) -> Markup | None:
    """Metrics of pictures as dots with 95 % intervals or errors; None where there are none."""
    rows = [row for row in report.rows if row.drawn and row.pictures_of is None]
    metrics = _plotted(report)
    if not metrics:
        return None
    colors = row_colors(report.rows)
    figure, panels = _metric_panels(metrics, 0.9 + 0.3 * len(rows))
    for panel, metric in panels:
        for index, row in enumerate(rows):
            found = row.figures.get(metric.name)
            if found is not None:
                color = colors[row.name]
                panel.plot(_ends(found), [-index] * 2, color=color, linewidth=1.5)
                panel.plot(found.value, -index, "o", color=color, markersize=7)
        real = floor(report, metric.name)
        if real is not None:
            panel.axvline(real.value, color=REAL, linestyle=":", linewidth=1.5)
        panel.set_yticks([-index for index in range(len(rows))], [row.name for row in rows])
        panel.set_ylim(-len(rows) + 0.4, 0.6)
        panel.set_title(f"{metric.label} ({metric.direction} is better; dotted: real images)")
    for index, (panel, _) in enumerate(panels):
        if index % _PANELS_IN_LINE:
            panel.tick_params(labelleft=False)
    names = " and ".join(metric.label for _, metric in panels)
    return to_markup(figure, "quality-dots", f"{names} of each row")


def _ends(figure: Value) -> tuple[float, float]:
    """Of the 95 % interval, else one error to each side."""
    if figure.low is not None and figure.high is not None:
        return figure.low, figure.high
    error = figure.error or 0.0
    return figure.value - error, figure.value + error


@styled
def search_front(report: Report) -> Markup | None:
    """Expected quality over latency, measured apart from predicted; None: nothing was searched."""
    if report.search is None:
        return None
    figure, axes = new_figure(1, 1, (8.6, 3.8))
    colors = FrontColors(INK, MUTED, GRID, SERIES[0], SERIES[STUDENT_SERIES[0]], PAGE)
    plot_front(axes[0], front_points(report.search), colors)
    text = f"Front of the search over picture latency. {report.search.chosen.reason}"
    return to_markup(figure, "search-front", text)
