"""The front of a search as a picture: quality over latency, measured apart from predicted."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class FrontPoints:
    """What is drawn, fastest first.

    Attributes:
        chosen: index of the chosen point.
        label: the chosen student in words.
        searched_on: the sentence that the figures must carry.
    """

    latencies: Sequence[float]
    qualities: Sequence[float]
    measured: Sequence[bool]
    chosen: int
    label: str
    teacher_ms: float
    searched_on: str


@dataclass(frozen=True)
class FrontColors:
    """Colours of a page; the default is that of a report in daylight."""

    ink: str = "#1a2230"
    muted: str = "#5b6676"
    grid: str = "#d9dee6"
    teacher: str = "#2563b8"
    student: str = "#c2500f"


_SIZE = (7.2, 4.4)


def draw_front(points: FrontPoints) -> str:
    """The picture as SVG text, on white."""
    import matplotlib
    from matplotlib.figure import Figure

    colors = FrontColors()
    with matplotlib.rc_context(_style(colors)):
        figure = Figure(figsize=_SIZE, layout="constrained")
        plot_front(figure.subplots(), points, colors)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _style(colors: FrontColors) -> dict[str, Any]:
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "search-front",
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.edgecolor": colors.grid,
        "axes.labelcolor": colors.muted,
        "axes.titlecolor": colors.ink,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": colors.grid,
        "grid.linewidth": 0.6,
        "text.color": colors.ink,
        "xtick.color": colors.muted,
        "ytick.color": colors.muted,
        "legend.frameon": False,
    }


def plot_front(panel: Axes, points: FrontPoints, colors: FrontColors) -> None:
    """Draw the front into a panel, so that a report can draw it in its own colours."""
    _front_line(panel, points, colors)
    for measured, face, name in ((False, "white", "predicted"), (True, colors.student, "measured")):
        shown = [
            (x, y)
            for x, y, was in zip(points.latencies, points.qualities, points.measured, strict=True)
            if was == measured
        ]
        if shown:
            x, y = zip(*shown, strict=True)
            panel.plot(
                x, y, "o", markersize=5, markerfacecolor=face, markeredgecolor=colors.student,
                label=f"{name} ({len(shown)})",
            )  # fmt: skip
    panel.plot(points.teacher_ms, 1.0, "s", color=colors.teacher, markersize=7, label="teacher")
    _name_chosen(panel, points, colors)
    _axes(panel, points)


def _front_line(panel: Axes, points: FrontPoints, colors: FrontColors) -> None:
    """Steps along the best quality that each latency buys; size may keep other points."""
    x: list[float] = []
    y: list[float] = []
    for latency, quality in zip(points.latencies, points.qualities, strict=True):
        if not y or quality > y[-1]:
            x.append(latency)
            y.append(quality)
    panel.step(x, y, where="post", color=colors.student, linewidth=1, alpha=0.5)


def _name_chosen(panel: Axes, points: FrontPoints, colors: FrontColors) -> None:
    x, y = points.latencies[points.chosen], points.qualities[points.chosen]
    panel.plot(
        x, y, "o", markersize=13, markerfacecolor="none", markeredgecolor=colors.ink,
        markeredgewidth=1.4, label="chosen",
    )  # fmt: skip


def _axes(panel: Axes, points: FrontPoints) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    shown = [*points.latencies, points.teacher_ms]
    span = max(shown) / min(shown)
    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if span < 6 else (1.0, 2.0, 5.0)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=subs))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.margins(x=0.06, y=0.1)
    panel.set_xlabel("picture latency (ms)")
    panel.set_ylabel("expected quality (share of the teacher's)")
    panel.set_title(f"Students on the front, {points.searched_on}")
    panel.legend(loc="lower right")
