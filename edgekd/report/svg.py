"""How plots become inline SVG whose colours follow the page's theme.

matplotlib draws with stand-in colours; the finished SVG gets CSS variables in
their place, so one plot serves the light and the dark page.
"""

from __future__ import annotations

import functools
import io
import itertools
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from markupsafe import Markup

from edgekd.plot_style import plot_style
from edgekd.report.schema import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")
INK, MUTED, GRID, REAL, PAGE = "#010203", "#040506", "#070809", "#0a0b0c", "#0b0c0d"
SERIES = tuple(f"#0d0e{index:02x}" for index in range(16, 24))
TEACHER_SERIES, STUDENT_SERIES = (0, 1), (2, 3, 4, 5, 6, 7)
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", REAL: "--real", PAGE: "--panel"} | {
    color: f"--series-{index}" for index, color in enumerate(SERIES)
}
_STYLE = plot_style(INK, MUTED, GRID)
_CHARACTERS_PER_INCH = 14
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">", "h", "*")


def styled(plot: Callable[P, R]) -> Callable[P, R]:
    """Run a plotting function under this page's style: matplotlib reads it as parts are made."""

    @functools.wraps(plot)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib

        with matplotlib.rc_context(_STYLE):
            return plot(*args, **kwargs)

    return wrapped


def row_series(rows: Sequence[Row]) -> dict[str, int]:
    """Number of each row's colour, one for each model: blues for teachers, others for students."""
    free = {"teacher": itertools.cycle(TEACHER_SERIES), "student": itertools.cycle(STUDENT_SERIES)}
    models: dict[str, int] = {}
    for row in rows:
        if row.model not in models:
            models[row.model] = next(free[row.role])
    return {row.name: models[row.model] for row in rows}


def row_markers(rows: Sequence[Row]) -> dict[str, str]:
    """Marker of each row, one for each runtime and precision."""
    kinds = list(dict.fromkeys((row.runtime, row.precision) for row in rows))
    return {
        row.name: MARKERS[kinds.index((row.runtime, row.precision)) % len(MARKERS)] for row in rows
    }


def row_colors(rows: Sequence[Row]) -> dict[str, str]:
    """Stand-in colour of each row."""
    return {name: SERIES[number] for name, number in row_series(rows).items()}


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
    text = re.sub(r'<g id="[A-Za-z][\w.]*_\d+"', "<g", text)
    label = escape(description, quote=True)
    width = round(72 * figure.get_figwidth())
    opening = f'<svg role="img" aria-label="{label}" class="plot" style="--natural: {width}px"'
    text = re.sub(r'<svg (?:height|width)="[^"]*"|<svg', opening, text, count=1)
    text = re.sub(r' (?:height|width)="[\d.]+pt"', "", text, count=2)
    return Markup(text)  # matplotlib has escaped every text in it


def new_figure(columns: int, rows: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure with its axes in reading order; no global pyplot state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def legend_above(figure: Figure, axes: Axes) -> None:
    """A legend over the plots, in as many columns as its longest label leaves room for."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        _legend(figure, handles, labels)


def rows_legend(figure: Figure, shown: Sequence[Row], rows: Sequence[Row]) -> None:
    """A legend over the plots: models by colour, runtimes by marker.

    Args:
        shown: rows that are plotted, of all `rows` of the report.
    """
    from matplotlib.lines import Line2D

    colors, markers = row_colors(rows), row_markers(rows)
    models = {row.model: colors[row.name] for row in shown}
    runtimes = {f"{row.runtime} {row.precision}": markers[row.name] for row in shown}
    handles = [Line2D([], [], color=color, lw=5) for color in models.values()]
    handles += [Line2D([], [], color=MUTED, marker=one, ls="") for one in runtimes.values()]
    _legend(figure, handles, [*models, *runtimes])


def _legend(figure: Figure, handles: list[Any], labels: list[str]) -> None:
    longest = max(len(label) for label in labels)
    columns = int(figure.get_figwidth() * _CHARACTERS_PER_INCH / (longest + 7))
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=max(1, min(columns, len(labels))),
        handlelength=1.5,
    )
