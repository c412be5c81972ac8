"""Logarithmic axes with plain numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Rows that differ by more than this are not told apart on an axis from 0.
_WIDE = 8


def log_axis(panel: Axes, which: Literal["x", "y"], span: float) -> None:
    """Make an axis logarithmic; the wider the span (largest / smallest), the fewer numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if span < 6 else (1.0, 2.0, 5.0) if span < 200 else (1.0,)
    panel.set(**{f"{which}scale": "log"})
    axis = panel.xaxis if which == "x" else panel.yaxis
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def latency_axis(panel: Axes, values: list[float]) -> None:
    """The x axis from 0, or logarithmic where latencies differ widely."""
    span = max(values) / min(values)
    if span > _WIDE:
        log_axis(panel, "x", span)
    else:
        panel.set_xlim(left=0)
