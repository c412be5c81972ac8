"""The front of a search as a picture: quality over latency, measured apart from predicted."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekd.plot_style import plot_style

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
    page: str = "#ffffff"


_SIZE = (7.2, 4.4)
_WRAP = 34  # letters of a line beside the chosen point


def draw_front(points: FrontPoints) -> str:
    """The picture as SVG text, on white."""
    import matplotlib
    from matplotlib.figure import Figure

    colors = FrontColors()
    style = plot_style(colors.ink, colors.muted, colors.grid)
    with matplotlib.rc_context({**style, "svg.hashsalt": "search-front"}):
        figure = Figure(figsize=_SIZE, layout="constrained")
        plot_front(figure.subplots(), points, colors)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def plot_front(panel: Axes, points: FrontPoints, colors: FrontColors) -> None:
    """Draw the front into a panel, so that a report can draw it in its own colours."""
    best = _best_yet(points.qualities)
    _front_line(panel, points, best, colors)
    for index, (x, y) in enumerate(zip(points.latencies, points.qualities, strict=True)):
        edge = colors.student if best[index] else colors.muted
        face = edge if points.measured[index] else colors.page
        size = 6 if points.measured[index] else 5
        panel.plot(x, y, "o", ms=size, mfc=face, mec=edge, alpha=1 if best[index] else 0.5)
    panel.plot(points.teacher_ms, 1.0, "s", color=colors.teacher, markersize=7)
    panel.annotate(
        "teacher",
        (points.teacher_ms, 1.0),
        xytext=(-8, 0),
        textcoords="offset points",
        color=colors.teacher,
        ha="right",
        va="center",
    )
    _name_chosen(panel, points, colors)
    _axes(panel, points)
    _legend(panel, points, best, colors)


def _best_yet(qualities: Sequence[float]) -> list[bool]:
    """Whether each point is better than all faster ones; the others are there for their size."""
    reached = -1.0
    found = []
    for quality in qualities:
        found.append(quality > reached)
        reached = max(reached, quality)
    return found


def _front_line(
    panel: Axes, points: FrontPoints, best: Sequence[bool], colors: FrontColors
) -> None:
    """Steps along the best quality that each latency buys."""
    x = [value for value, shown in zip(points.latencies, best, strict=True) if shown]
    y = [value for value, shown in zip(points.qualities, best, strict=True) if shown]
    panel.step(x, y, where="post", color=colors.student, linewidth=1, alpha=0.5)


def _name_chosen(panel: Axes, points: FrontPoints, colors: FrontColors) -> None:
    """A ring, and the student in words on the side where the front leaves room."""
    x, y = points.latencies[points.chosen], points.qualities[points.chosen]
    panel.plot(x, y, "o", ms=13, mfc="none", mec=colors.ink, mew=1.4)
    facts = f"chosen: {x:.3g} ms, {points.teacher_ms / x:.3g}\N{MULTIPLICATION SIGN} as fast"
    text = "\n".join([facts, *textwrap.wrap(points.label, _WRAP)])
    fastest = min(points.latencies)
    right = x * x > fastest * points.teacher_ms  # beyond the middle of a logarithmic axis
    panel.annotate(
        text,
        (x, y),
        xytext=(-12 if right else 12, -12),
        textcoords="offset points",
        color=colors.ink,
        ha="right" if right else "left",
        va="top",
    )


def _axes(panel: Axes, points: FrontPoints) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    shown = [*points.latencies, points.teacher_ms]
    span = max(shown) / min(shown)
    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if span < 6 else (1.0, 2.0, 5.0)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=subs))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.margins(x=0.06, y=0.1)
    panel.set_xlabel("picture latency (ms)")
    panel.set_ylabel("expected quality (share of the teacher's)")
    panel.set_title(f"Front of students, {points.searched_on}")


def _legend(panel: Axes, points: FrontPoints, best: Sequence[bool], colors: FrontColors) -> None:
    """What the marks mean, with counts; only marks that occur."""
    from matplotlib.lines import Line2D

    kinds = [
        "measured" if measured else "predicted" if better else "size"
        for measured, better in zip(points.measured, best, strict=True)
    ]
    marks = (
        ("measured", "measured whole", colors.student, colors.student),
        ("predicted", "predicted", colors.page, colors.student),
        ("size", "predicted, on the front for its size", colors.page, colors.muted),
    )
    handles = [
        Line2D([], [], marker="o", ls="", ms=5, mfc=face, mec=edge, label=f"{name} ({count})")
        for kind, name, face, edge in marks
        if (count := kinds.count(kind))
    ]
    panel.legend(handles=handles, loc="lower right")
