"""How all of edgekd's plots look, but for their colours."""

from __future__ import annotations

from typing import Any


def plot_style(ink: str, muted: str, grid: str) -> dict[str, Any]:
    """matplotlib's settings for SVG plots in these colours."""
    return {
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.edgecolor": grid,
        "axes.labelcolor": muted,
        "axes.titlecolor": ink,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": grid,
        "grid.linewidth": 0.6,
        "text.color": ink,
        "xtick.color": muted,
        "ytick.color": muted,
        "legend.frameon": False,
        "legend.labelcolor": ink,
    }
