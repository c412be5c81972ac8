"""Pictures side by side: data URIs for the page, one sheet for Markdown.

images: uint8 [H,W,3].
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from edgekd.files import atomic_file

# Larger pictures are reduced: the page stays one file of a few megabytes.
MAX_SIDE = 256
_MAX_SHEET_SIDE = 1024
_GAP, _LABEL_HEIGHT = 6, 16


@dataclass(frozen=True)
class TrainingSheet:
    """The last sample sheet of a phase, with rows of earlier ones.

    Attributes:
        rows: what each row is, from the top.
        picture: uint8 [H,W,3], all rows.
    """

    phase: str
    rows: Sequence[str]
    picture: Any


@dataclass(frozen=True)
class Gallery:
    """The same prompts in every row, from the same noise.

    Attributes:
        captions: one per column.
        holdouts: of each column's real image; empty: there are none.
        rows: row name -> its pictures, uint8 [H,W,3] each.
        sheets: that phases of the training left.
    """

    captions: Sequence[str]
    holdouts: Sequence[str]
    rows: Mapping[str, Sequence[Any]]
    sheets: Sequence[TrainingSheet] = ()


def thumbnail(image: Any, side: int = MAX_SIDE) -> Image.Image:
    """A picture, reduced with antialiasing if it is larger than `side`."""
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture


def sheet_uri(sheet: TrainingSheet) -> str:
    """As `data_uri`, of a whole sheet."""
    return data_uri(sheet.picture, _MAX_SHEET_SIDE)


def data_uri(image: Any, side: int = MAX_SIDE) -> str:
    """A picture as `data:image/png;base64,…`."""
    stream = io.BytesIO()
    thumbnail(image, side).save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def sheet(gallery: Gallery) -> Image.Image:
    """All rows under each other, each under its name."""
    pictures = {name: [thumbnail(image) for image in row] for name, row in gallery.rows.items()}
    sides = (max(picture.size) for row in pictures.values() for picture in row)
    side = max(sides, default=0)  # a run that was stopped before its first row has none
    columns = len(gallery.captions)
    height = len(pictures) * (side + _LABEL_HEIGHT + _GAP) + _GAP
    canvas = Image.new("RGB", (columns * (side + _GAP) + _GAP, height), "white")
    pen = ImageDraw.Draw(canvas)
    top = _GAP
    for name, row in pictures.items():
        label = name.encode("ascii", "replace").decode("ascii")  # Pillow's own font is Latin only
        pen.text((_GAP, top), label, fill="black")
        for column, picture in enumerate(row):
            canvas.paste(picture, (_GAP + column * (side + _GAP), top + _LABEL_HEIGHT))
        top += side + _LABEL_HEIGHT + _GAP
    return canvas


def write_sheet(gallery: Gallery, path: Path) -> None:
    """Write the sheet as PNG, whole or not at all."""
    with atomic_file(path) as temporary:
        sheet(gallery).save(temporary, format="PNG", optimize=True)
