"""Plots as inline SVG whose colours follow the page's theme.

matplotlib draws with stand-in colours; the finished SVG gets CSS variables in
their place, so one plot serves the light and the dark page.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")
Points = Sequence[Sequence[float]]
INK, MUTED, GRID, REAL = "#010203", "#040506", "#070809", "#0a0b0c"
SERIES = tuple(f"#0d0e{index:02x}" for index in range(16, 24))
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", REAL: "--real"} | {
    color: f"--series-{index}" for index, color in enumerate(SERIES)
}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.labelcolor": INK,
}
_MARKERS = ("o", "s", "^", "D", "v", "P")


def styled(plot: Callable[P, R]) -> Callable[P, R]:
    """Run a plotting function under this page's style: matplotlib reads it as parts are made."""

    @functools.wraps(plot)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib

        with matplotlib.rc_context(_STYLE):
            return plot(*args, **kwargs)

    return wrapped


def row_colors(names: Sequence[str]) -> dict[str, str]:
    """One stand-in colour per row, in order."""
    return {name: SERIES[index % len(SERIES)] for index, name in enumerate(names)}


def to_markup(figure: Figure, salt: str, description: str) -> Markup:
    """A figure as an accessible `<svg>`; `salt` keeps ids of several plots on a page apart."""
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    # Groups are called figure_1, axes_1, … in every plot; ids must differ on one page.
    text = re.sub(r'<g id="[A-Za-z][\w.]*_\d+">', "<g>", text)
    label = escape(description, quote=True)
    opening = f'<svg role="img" aria-label="{label}" class="plot"'
    text = re.sub(r'<svg (?:height|width)="[^"]*"|<svg', opening, text, count=1)
    text = re.sub(r' (?:height|width)="[\d.]+pt"', "", text, count=2)
    return Markup(text)  # matplotlib has escaped every text in it


def new_figure(columns: int, rows: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure with its axes in reading order; no global pyplot state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def _legend_above(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles, labels, loc="outside upper left", ncols=min(5, len(handles)), handlelength=1.5
        )


@styled
def latency_quality(report: Mapping[str, Any]) -> Markup | None:
    """FD and score over the latency of one picture; None where no times were measured."""
    rows = [row for row in report["rows"] if row["speed"] and row["quality"]]
    if not rows:
        return None
    colors = row_colors([row["name"] for row in report["rows"]])
    figure, axes = new_figure(2, 1, (8.6, 3.5))
    for panel, metric, arrow in zip(axes, ("fd", "score"), ("lower", "higher"), strict=True):
        for index, row in enumerate(rows):
            latency = row["speed"]["image"]
            low, high = latency["p50_ms"], latency["p90_ms"]
            panel.plot(
                [low, high], [row["quality"][metric]] * 2, color=colors[row["name"]], linewidth=1
            )
            panel.plot(
                low,
                row["quality"][metric],
                _MARKERS[index % len(_MARKERS)],
                color=colors[row["name"]],
                markersize=8,
                label=row["name"],
            )
        panel.axhline(report["real"][metric], color=REAL, linestyle=":", linewidth=1.5)
        panel.annotate(
            "real images",
            (1, report["real"][metric]),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            color=MUTED,
        )
        panel.set_xlim(left=0)
        panel.set_xlabel("latency per picture in ms: p50, whisker to p90")
        name = "FD" if metric == "fd" else "score"
        panel.set_title(f"{name} ({arrow} is better)")
    _legend_above(figure, axes[0])
    return to_markup(figure, "latency-quality", "FD and caption score over latency for each row")


@styled
def quality_dots(report: Mapping[str, Any]) -> Markup:
    """FD and score of each row as dots with error bars, for suites that time nothing."""
    rows = [row for row in report["rows"] if row["quality"]]
    colors = row_colors([row["name"] for row in report["rows"]])
    figure, axes = new_figure(2, 1, (8.6, 0.9 + 0.42 * len(rows)))
    for panel, metric, arrow in zip(axes, ("fd", "score"), ("lower", "higher"), strict=True):
        for index, row in enumerate(rows):
            error = row["quality"]["score_standard_error"] if metric == "score" else None
            panel.errorbar(
                row["quality"][metric],
                -index,
                xerr=error,
                fmt="o",
                color=colors[row["name"]],
                markersize=8,
            )
        panel.axvline(report["real"][metric], color=REAL, linestyle=":", linewidth=1.5)
        panel.set_yticks([-index for index in range(len(rows))], [row["name"] for row in rows])
        panel.set_ylim(-len(rows) + 0.4, 0.6)
        name = "FD" if metric == "fd" else "score"
        panel.set_title(f"{name} ({arrow} is better; dotted: real images)")
    return to_markup(figure, "quality-dots", "FD and caption score of each row")


@styled
def raw_latencies(report: Mapping[str, Any]) -> Markup | None:
    """Every measured picture of every row, and the p50; None where no times were measured."""
    rows = [row for row in report["rows"] if row["speed"]]
    if not rows:
        return None
    colors = row_colors([row["name"] for row in report["rows"]])
    figure, (panel,) = new_figure(1, 1, (8.6, 0.8 + 0.36 * len(rows)))
    for index, row in enumerate(rows):
        latency = row["speed"]["image"]
        samples = latency["samples_ms"]
        color = colors[row["name"]]
        panel.plot(samples, [-index] * len(samples), "o", color=color, alpha=0.55, markersize=5)
        panel.plot([latency["p50_ms"]] * 2, [-index - 0.3, -index + 0.3], color=color, linewidth=2)
    panel.set_yticks([-index for index in range(len(rows))], [row["name"] for row in rows])
    panel.set_xlim(left=0)
    panel.set_xlabel("ms per picture: every sample; bar: p50")
    return to_markup(figure, "raw-latencies", "All measured latencies of each row")


_TERMS = (
    ("loss", "loss (sum of weighted terms)"),
    ("task", "task: noise prediction"),
    ("output", "output: teacher's prediction"),
    ("feature", "feature: teacher's blocks"),
    ("validation_task", "validation, task"),
    ("validation_output", "validation, output"),
)
_OTHER = {"lr", "learning_rate", "grad_norm"}


def curve_terms(curves: Mapping[str, Mapping[str, Points]]) -> list[tuple[str, str]]:
    """Which terms are plotted, in order, with their titles: those that any curve has."""
    present = {term for curve in curves.values() for term, points in curve.items() if points}
    known = [(term, title) for term, title in _TERMS if term in present]
    names = {term for term, _ in _TERMS} | _OTHER
    extra = sorted(term for term in present - names if not term.endswith("_weighted"))
    return known + [(term, term.replace("_", " ")) for term in extra]


def curve_colors(curves: Sequence[str], rows: Sequence[str]) -> dict[str, str]:
    """A run has the colour of the first row whose name holds the run's name as a word."""
    of_row = row_colors(rows)
    left = iter([color for color in SERIES if color not in of_row.values()] or SERIES)
    colors = {}
    for name in curves:
        owners = [row for row in rows if row == name or name in row.split()]
        colors[name] = of_row[owners[0]] if owners else next(left, SERIES[0])
    return colors


@styled
def loss_curves(
    curves: Mapping[str, Mapping[str, Points]], row_names: Sequence[str] = ()
) -> Markup | None:
    """Small multiples, one per term, all runs in each; logarithmic where the values allow it.

    Args:
        row_names: of the report, in order, for colours that agree with the other plots.
    """
    terms = curve_terms(curves)
    if not terms:
        return None
    columns = min(3, len(terms))
    rows = -(-len(terms) // columns)
    figure, axes = new_figure(columns, rows, (2.9 * columns, 0.4 + 2.2 * rows))
    colors = curve_colors(list(curves), row_names)
    for panel, (term, title) in zip(axes, terms, strict=False):
        lowest = float("inf")
        for name, curve in curves.items():
            points = curve.get(term, [])
            if not points:
                continue
            x, y = [p[0] for p in points], [p[1] for p in points]
            lowest = min(lowest, *y)
            _plot_curve(panel, x, y, colors[name], name)
        if lowest > 0:
            _log_axis(panel)
        panel.set_title(title)
        panel.set_xlabel("step")
    for panel in axes[len(terms) :]:
        panel.set_visible(False)
    if len(curves) > 1:
        _legend_above(figure, axes[0])
    return to_markup(figure, "loss-curves", "Training and validation losses over steps")


def _log_axis(panel: Axes) -> None:
    """Logarithmic y with plain numbers, a few in each decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def _plot_curve(panel: Axes, x: list[float], y: list[float], color: str, name: str) -> None:
    if len(x) < 30:
        panel.plot(x, y, "o-", color=color, markersize=3, linewidth=1.5, label=name)
        return
    panel.plot(x, y, color=color, linewidth=0.7, alpha=0.3)
    panel.plot(x, smooth(y), color=color, linewidth=1.6, label=name)


def smooth(values: Sequence[float], keep: float = 0.9) -> list[float]:
    """Exponential moving average, corrected for its start at zero."""
    result, mean, weight = [], 0.0, 0.0
    for value in values:
        mean = keep * mean + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        result.append(mean / weight)
    return result


@styled
def projection(report: Mapping[str, Any]) -> Markup:
    """Features of reference images (grey), the prompts' images, teacher and student."""
    points: Mapping[str, Points] = report["projection"]["points"]
    colors = {"real": REAL, **row_colors([row["name"] for row in report["rows"]])}
    figure, (panel,) = new_figure(1, 1, (6.2, 4.6))
    for index, (name, pairs) in enumerate(points.items()):
        background = index == 0
        panel.plot(
            [p[0] for p in pairs],
            [p[1] for p in pairs],
            "o" if background else _MARKERS[index % len(_MARKERS)],
            color=GRID if background else colors.get(name, INK),
            alpha=0.9 if background else 0.75,
            markersize=3 if background else 5,
            label="images of the prompts" if name == "real" else name,
        )
    panel.set_xticks([])
    panel.set_yticks([])
    panel.grid(visible=False)
    _legend_above(figure, panel)
    method = report["projection"]["method"]
    return to_markup(figure, "projection", f"{method} of image features: real, teacher, student")
