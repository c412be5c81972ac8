"""Pictures written while a teacher trains: image grids and the loss curve."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from torch import Tensor

from edgekd.files import write_bytes

GAP = 2


def write_grid(images: Tensor, path: Path, columns: int) -> None:
    """Write [N,3,H,W] images in [-1,1] as one PNG, row by row, on white."""
    from PIL import Image

    count, _, height, width = images.shape
    rows = -(-count // columns)
    size = (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP)
    sheet = Image.new("RGB", size, "white")
    pixels = ((images.clamp(-1, 1) + 1) * 127.5 + 0.5).byte().permute(0, 2, 3, 1).cpu().numpy()
    for number in range(count):
        row, column = divmod(number, columns)
        place = (GAP + column * (width + GAP), GAP + row * (height + GAP))
        sheet.paste(Image.fromarray(pixels[number]), place)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def write_curves(stages: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Write the loss curves of all stages that have rows: raw, smoothed, and validation."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = {name: rows for name, rows in stages.items() if rows}
    figure = Figure(figsize=(6 * max(1, len(shown)), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (name, rows) in enumerate(shown.items(), start=1):
        axes = figure.add_subplot(1, len(shown), number)
        points = [(row["step"], row["loss"]) for row in rows if "loss" in row]
        axes.plot(*zip(*points, strict=True), color="0.8", linewidth=0.5, label="loss")
        axes.plot(*zip(*_smooth(points), strict=True), label="smoothed")
        checks = [(r["step"], r["validation_loss"]) for r in rows if "validation_loss" in r]
        if checks:
            axes.plot(*zip(*checks, strict=True), marker=".", label="validation")
        axes.set(title=name, xlabel="step", yscale="log")
        axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    write_bytes(path, buffer.getvalue())


def _smooth(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Running mean whose memory is a fiftieth of the curve."""
    weight = min(1.0, 50 / len(points))
    result, level = [], points[0][1]
    for step, value in points:
        level += weight * (value - level)
        result.append((step, level))
    return result
