"""Read prepared data back, sample by sample, in the order of preparation."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgekd.artifacts import PreparedData
from edgekd.data.split import Holdout
from edgekd.data.tars import iter_samples

SplitName = Literal["train", "validation"]


@dataclass(frozen=True)
class PreparedSample:
    """One captioned image at the data's resolution.

    Attributes:
        image: `uint8 [H, W, 3]`, RGB.
        group: what the split went by.
        holdout: `"train"`, or the kind of validation: `"group"` or `"image"`.
        fields: the record's other columns.
        original_size: (height, width) of the source image.
        crop: (top, left) of the square in the resized image.
        source: where the image comes from: its `source` column, or its place in the sources.
    """

    key: str
    image: npt.NDArray[np.uint8]
    caption: str
    group: str
    holdout: Holdout
    fields: dict[str, str]
    original_size: tuple[int, int]
    crop: tuple[int, int]
    image_hash: str
    source: str
    license: str


def list_shards(data: PreparedData, split: SplitName) -> list[Path]:
    """The shards of one side of the split, in order."""
    return sorted((data.root / "shards").glob(f"{split}-*.tar"))


def iter_prepared(data: PreparedData, split: SplitName) -> Iterator[PreparedSample]:
    """Stream one side of the split in stable order."""
    for path in list_shards(data, split):
        yield from iter_shard(path)


def iter_shard(path: Path) -> Iterator[PreparedSample]:
    """Stream one shard.

    Raises:
        InputError: the shard is damaged.
    """
    for sample in iter_samples(path):
        parts = {part: content or b"" for part, content in sample.parts.items()}
        yield _sample(sample.key, parts)


def _sample(key: str, parts: dict[str, bytes]) -> PreparedSample:
    values: dict[str, Any] = json.loads(parts["json"])
    with Image.open(io.BytesIO(parts["png"]), formats=("PNG",)) as image:
        pixels = np.array(image.convert("RGB"))
    for name in ("original_size", "crop"):
        values[name] = tuple(values[name])
    return PreparedSample(key=key, image=pixels, **values)
