"""Pictures of an evaluation: sheets and the sweep's plot."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekd.files import atomic_file
from edgekd.teach.data import to_batch
from edgekd.teach.evaluation.images import Images
from edgekd.teach.evaluation.schema import GuidanceSweep
from edgekd.teach.plots import write_grid

COLUMNS = 8


def write_sheet(images: Images, path: Path, columns: int = COLUMNS) -> None:
    """Pictures row by row."""
    write_grid(to_batch(list(images)), path, columns)


def write_pairs(upper: Images, lower: Images, path: Path) -> None:
    """Each picture of `upper` with its partner below it."""
    rows = []
    for start in range(0, len(upper), COLUMNS):
        for images in (upper[start : start + COLUMNS], lower[start : start + COLUMNS]):
            blank = np.full((COLUMNS - len(images), *images.shape[1:]), 255, np.uint8)
            rows.append(np.concatenate([images, blank]))
    write_sheet(np.concatenate(rows), path)


def write_sweep(sweep: GuidanceSweep, path: Path) -> None:
    """FD and R@1 over the guidance scale, beside real images of the same content."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    scales = [row.guidance_scale for row in sweep.rows]
    left.plot(scales, [row.fd for row in sweep.rows], marker="o", label="generated")
    left.axhline(sweep.real.fd, color="0.4", linestyle=":", label="real images")
    left.set(xlabel="guidance scale", title="FD (lower is better)", ylim=(0, None))
    right.errorbar(
        scales,
        [row.retrieval.r1 for row in sweep.rows],
        yerr=[row.retrieval.r1_standard_error for row in sweep.rows],
        marker="o",
        label="generated",
    )
    right.axhline(sweep.real.retrieval.r1, color="0.4", linestyle=":", label="real images")
    right.set(xlabel="guidance scale", title="R@1 (higher is better)", ylim=(0, 1))
    for axes in (left, right):
        axes.axvline(sweep.chosen, color="C1", linewidth=1, label="chosen")
        axes.legend()
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=90)
