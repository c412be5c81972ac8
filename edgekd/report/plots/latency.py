"""Where each row's samples lie, and how cost grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekd.report.costs import AXES
from edgekd.report.costs_schema import Scaling
from edgekd.report.part import Points
from edgekd.report.plots.axes import latency_axis, log_axis
from edgekd.report.schema import HERE, Report
from edgekd.report.svg import (
    INK,
    new_figure,
    row_colors,
    row_markers,
    rows_legend,
    styled,
    to_markup,
)

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes


@styled
def raw_latencies(report: Report, device: str = HERE) -> Markup | None:
    """Every measured picture of every row on a device, with p50 and p90; None where nothing was
    timed."""
    rows = [row for row in report.rows if row.device == device and "image" in row.speed]
    if not rows:
        return None
    colors = row_colors(report.rows)
    figure, (panel,) = new_figure(1, 1, (8.6, 0.8 + 0.32 * len(rows)))
    for index, row in enumerate(rows):
        latency, color = row.speed["image"], colors[row.name]
        samples = latency.samples_ms
        # Spread over the line, in the order they were taken: drift shows as a slope.
        steps = max(len(samples) - 1, 1)
        heights = [-index + 0.22 - 0.44 * number / steps for number in range(len(samples))]
        panel.plot(samples, heights, "o", color=color, alpha=0.5, markersize=3.5)
        for value, half in ((latency.p50_ms, 0.34), (latency.p90_ms, 0.2)):
            panel.plot([value] * 2, [-index - half, -index + half], color=color, linewidth=2)
    panel.set_yticks([-index for index in range(len(rows))], [row.name for row in rows])
    panel.set_ylim(-len(rows) + 0.4, 0.6)
    latency_axis(panel, [row.speed["image"].p50_ms for row in rows])
    panel.set_xlabel("ms per picture: every sample, first above; bars: p50, p90 (short)")
    return to_markup(figure, f"raw {device}", "All measured latencies of each row")


@styled
def scaling(report: Report) -> Markup | None:
    """Latency and memory over each axis, both logarithmic: a power law is a straight line, whose
    slope is the exponent. None where nothing was scaled."""
    if not report.scaling:
        return None
    axes = list(dict.fromkeys(one.axis for one in report.scaling))
    columns = len(axes)
    lines = 2 if any(_peaks(one) for one in report.scaling) else 1
    figure, panels = new_figure(columns, lines, (max(2.15 * columns, 5), 2.3 * lines + 0.3))
    colors, markers = row_colors(report.rows), row_markers(report.rows)
    for index, panel in enumerate(panels):
        weighed = index >= columns
        axis = axes[index % columns]
        chosen = [one for one in report.scaling if one.axis == axis]
        lines_of = {one.row: _peaks(one) if weighed else _latencies(one) for one in chosen}
        if not any(lines_of.values()):
            panel.set_visible(False)
            continue
        for one in chosen:
            color = colors.get(one.row, INK)
            _line(panel, lines_of[one.row], color, markers.get(one.row, "o"))
            if not weighed:
                _name_exponent(panel, one, color)
        _axes(panel, chosen)
        panel.set_title("peak memory, MB" if weighed else "latency, ms")
        panel.set_xlabel(AXES[axis])
    names = {one.row for one in report.scaling}
    rows_legend(figure, [row for row in report.rows if row.name in names], report.rows)
    return to_markup(figure, "scaling", "Latency and memory over batch, side, steps and threads")


def _latencies(one: Scaling) -> Points:
    return list(zip(map(float, one.values), one.latency_ms, strict=True))


def _peaks(one: Scaling) -> Points:
    """In MB, where they were measured."""
    pairs = zip(one.values, one.peak_bytes, strict=True)
    return [(float(value), peak / 1e6) for value, peak in pairs if peak is not None]


def _line(panel: Axes, points: Points, color: str, marker: str) -> None:
    x, y = [x for x, _ in points], [y for _, y in points]
    panel.plot(x, y, color=color, marker=marker, ms=5, lw=1.4)


def _name_exponent(panel: Axes, one: Scaling, color: str) -> None:
    panel.annotate(
        f"{one.exponent:.2f}",
        (one.values[-1], one.latency_ms[-1]),
        xytext=(6, 0),
        textcoords="offset points",
        color=color,
        va="center",
    )


def _axes(panel: Axes, chosen: list[Scaling]) -> None:
    """Both logarithmic; x names the values that were measured."""
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = panel.get_ylim()
    log_axis(panel, "x", 1)
    log_axis(panel, "y", high / max(low, high / 1e3))
    values = sorted({value for one in chosen for value in one.values})
    panel.xaxis.set_major_locator(FixedLocator(values))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.margins(x=0.2, y=0.15)
