"""The sample sheets that a phase of a training left, as one picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgekd.report.pictures import TrainingSheet


@dataclass(frozen=True)
class _Sheet:
    """Attributes: row_pixels: from the top of a row to the top of the next; 0: it does not say."""

    step: int
    rows: list[str]
    row_pixels: int
    picture: Any


def training_sheet(phase: str, metrics: Path) -> TrainingSheet | None:
    """The last sheet beside a phase's metrics, and in it what the student drew on the way to it:
    its first row on the first sheet, after a quarter of them and after half.

    Returns:
        None: there is none, or the last cannot be read.
    """
    paths = sorted((metrics.parent / "samples").glob("step-*.png"))
    last = _read(paths[-1]) if paths else None
    if last is None:
        return None
    whole = len(paths) - 1
    found = [_read(paths[number]) for number in sorted({0, whole // 4, whole // 2} - {whole})]
    earlier = [sheet for sheet in found if sheet is not None and _alike(sheet, last)]
    if not earlier:
        return TrainingSheet(phase, last.rows, last.picture)
    taught, _, *others = last.rows
    rows = [taught, *(f"{sheet.rows[1]}, in step {sheet.step}" for sheet in [*earlier, last])]
    return TrainingSheet(phase, [*rows, *others], _joined(earlier, last))


def _read(path: Path) -> _Sheet | None:
    """None: it is cut off, or another file."""
    try:
        with Image.open(path) as image:
            rows, pixels = (json.loads(image.info.get(name, "[]")) for name in ("rows", "pitch"))
            step = int(path.stem.rpartition("-")[2])
            return _Sheet(step, rows, pixels or 0, np.asarray(image.convert("RGB")))
    except (OSError, ValueError):
        return None


def _alike(sheet: _Sheet, last: _Sheet) -> bool:
    """Whether both begin with the same two rows of as many pictures."""
    same = sheet.rows[:2] == last.rows[:2] and len(last.rows) > 1
    pixels = sheet.row_pixels == last.row_pixels > 0
    return same and pixels and sheet.picture.shape[1] == last.picture.shape[1]


def _joined(earlier: Sequence[_Sheet], last: _Sheet) -> Any:
    """uint8 [H,W,3]: rows of `earlier` below the teacher's."""
    pixels = last.row_pixels
    drawn = [sheet.picture[pixels : 2 * pixels] for sheet in earlier]
    # Nothing follows the gap of a sheet's last row: there is none.
    filled = [
        np.pad(row, ((0, pixels - len(row)), (0, 0), (0, 0)), constant_values=255) for row in drawn
    ]
    return np.concatenate([last.picture[:pixels], *filled, last.picture[pixels:]])
