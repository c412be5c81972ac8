"""How a rebuilt table of images differs from the shipped one."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Comparison:
    """How two tables differ. `max_difference`: of RGBA levels where either image shows."""

    rows: int
    other_rows: int
    equal_words: int
    equal_bytes: int
    equal_pixels: int
    max_difference: int


def compare(path: Path, other: Path) -> Comparison:
    """Compare two tables row by row, matched by the image's file name."""
    import pyarrow.parquet as pq

    tables = [
        {row["image"]["path"]: row for row in pq.read_table(p).to_pylist()} for p in (path, other)
    ]
    both = [(row, tables[1][name]) for name, row in tables[0].items() if name in tables[1]]
    differences = [_difference(a["image"]["bytes"], b["image"]["bytes"]) for a, b in both]
    return Comparison(
        rows=len(tables[0]),
        other_rows=len(tables[1]),
        equal_words=sum({**a, "image": 0} == {**b, "image": 0} for a, b in both),
        equal_bytes=sum(a["image"]["bytes"] == b["image"]["bytes"] for a, b in both),
        equal_pixels=sum(difference == 0 for difference in differences),
        max_difference=max(differences, default=0),
    )


def _difference(content: bytes, other: bytes) -> int:
    pixels = []
    for item in (content, other):
        with Image.open(io.BytesIO(item)) as image:
            pixels.append(np.asarray(image.convert("RGBA"), np.int16))
    shown = (pixels[0][..., 3:] > 0) | (pixels[1][..., 3:] > 0)
    return int((np.abs(pixels[0] - pixels[1]) * shown).max())
