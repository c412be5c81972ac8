"""Features in two dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgekd.report.features_schema import BlockProjection, Embeddings, Projection
from edgekd.report.schema import Report
from edgekd.report.svg import (
    GRID,
    INK,
    MARKERS,
    REAL,
    legend_above,
    new_figure,
    row_colors,
    styled,
    to_markup,
)

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

# Reference images are many and in the background.
_BACKGROUND = "reference images"
_MOST_IN_LINE = 3


@styled
def projections(report: Report) -> Markup | None:
    """Features of images: references (grey), the prompts' own images, teacher and student."""
    if not report.projections:
        return None
    colors = {"real": REAL, **row_colors(report.rows)}
    count = len(report.projections)
    figure, axes = new_figure(count, 1, (max(4.3 * count, 6.2), 4.2))
    for panel, one in zip(axes, report.projections, strict=True):
        _scatter(panel, one.points, colors)
        panel.set_title(method_text(one))
    legend_above(figure, axes[0])
    methods = " and ".join(one.method for one in report.projections)
    return to_markup(figure, "projection", f"{methods} of image features: real, teacher, student")


@styled
def block_projections(found: Embeddings, report: Report, salt: str) -> Markup | None:
    """Both models' features of each block in one basis, a panel for each method."""
    panels = [(block, one) for block in found.blocks for one in block.projections]
    if not panels:
        return None
    columns = min(_MOST_IN_LINE, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = new_figure(columns, lines, (2.9 * columns, 0.5 + 2.7 * lines))
    colors = row_colors(report.rows)
    for panel, (block, one) in zip(axes, panels, strict=False):
        _scatter(panel, one.points, colors)
        panel.set_title(_block_title(block, one))
    for panel in axes[len(panels) :]:
        panel.set_visible(False)
    legend_above(figure, axes[0])
    text = f"Inner features of {found.teacher} and {found.student}, block by block"
    return to_markup(figure, salt, text)


def _scatter(
    panel: Axes, points: Mapping[str, Sequence[Sequence[float]]], colors: Mapping[str, str]
) -> None:
    for index, (name, pairs) in enumerate(points.items()):
        behind = name == _BACKGROUND
        panel.plot(
            [pair[0] for pair in pairs],
            [pair[1] for pair in pairs],
            "o" if behind else MARKERS[index % len(MARKERS)],
            color=GRID if behind else colors.get(name, INK),
            alpha=0.9 if behind else 0.7,
            markersize=3 if behind else 4.5,
            label="images of the prompts" if name == "real" else name,
        )
    panel.set_xticks([])
    panel.set_yticks([])
    panel.grid(visible=False)


def _block_title(block: BlockProjection, one: Projection) -> str:
    return f"{block.block}, t={block.timestep}\n{method_text(one)}"


def method_text(one: Projection) -> str:
    """`t-SNE (seed 0, perplexity 15)`, `PCA (31 % + 12 % of the variance)`."""
    facts = []
    if one.seed is not None:
        facts.append(f"seed {one.seed}")
    if one.perplexity is not None:
        facts.append(f"perplexity {one.perplexity:g}")
    if one.explained is not None:
        first, second = one.explained
        facts.append(f"{first:.0%} + {second:.0%} of the variance".replace("%", " %"))
    return f"{one.method} ({', '.join(facts)})" if facts else one.method
