"""Second pass over the records: decode what is kept, resize, crop, and write shards."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgekd.data.buckets import Size, training_sizes
from edgekd.data.images import BadImageError, Color, decode, resize_and_crop
from edgekd.data.records import Record, iter_records
from edgekd.data.scan import SKIPPED, TRAIN, VALIDATION, Decision, chunks
from edgekd.data.split import group_of, holdout
from edgekd.data.tars import ShardWriter
from edgekd.errors import InputError
from edgekd.files import canonical_json
from edgekd.parts import note_part
from edgekd.processes.pool import ordered_map
from edgekd.progress import Advance
from edgekd.recipe import DataSection

# About half the time of the default level 6, for a tenth more bytes.
PNG_COMPRESS_LEVEL = 2
SIDES = {TRAIN: "train", VALIDATION: "validation"}
# A side of the split, and a bucket of it.
Place = tuple[int, int]


@dataclass(frozen=True)
class Pixels:
    """One image as it is stored: (height, width) before resizing, (top, left) after it."""

    png: bytes
    original_size: tuple[int, int]
    crop: tuple[int, int]


@dataclass(frozen=True)
class PixelSettings:
    """What decides about the pixels of one image."""

    background: Color
    max_pixels: int
    crop: Literal["center", "random"]


def make_pixels(
    image_bytes: bytes, image_hash: bytes, size: Size, settings: PixelSettings
) -> Pixels | None:
    """Decode, resize, crop, and encode as PNG; None when the file is not what it was."""
    if hashlib.sha256(image_bytes).digest() != image_hash:
        return None
    try:
        image = decode(image_bytes, settings.background, settings.max_pixels)
    except BadImageError:
        return None
    position = crop_position(image_hash) if settings.crop == "random" else (0.5, 0.5)
    cut, corner = resize_and_crop(image, size, position)
    stream = io.BytesIO()
    cut.save(stream, "PNG", compress_level=PNG_COMPRESS_LEVEL)
    return Pixels(stream.getvalue(), (image.height, image.width), corner)


def crop_position(image_hash: bytes) -> tuple[float, float]:
    """Two numbers in [0, 1) that look random and depend on the image alone."""
    digest = hashlib.sha256(b"crop\0" + image_hash).digest()
    y, x = (int.from_bytes(digest[start : start + 7], "big") / 2**56 for start in (0, 8))
    return y, x


def _make_all(
    argument: tuple[list[tuple[bytes, bytes, Size]], PixelSettings],
) -> list[Pixels | None]:
    images, settings = argument
    return [make_pixels(*image, settings) for image in images]


class SplitShards:
    """The shards of one side of the split and one bucket, filled one after the other."""

    def __init__(self, folder: Path, name: str, shard_samples: int) -> None:
        self._folder, self._name, self._shard_samples = folder, name, shard_samples
        self._writer: ShardWriter | None = None
        self._shard = 0
        while self._path().is_file():
            self._shard += 1
        self.finished = self._shard * shard_samples

    def _path(self) -> Path:
        return self._folder / f"{self._name}-{self._shard:06d}.tar"

    def write(self, key: str, parts: dict[str, bytes]) -> None:
        """Add a sample; a full shard is closed."""
        if self._writer is None:
            self._writer = ShardWriter(self._path())
        self._writer.write(key, parts)
        if self._writer.samples == self._shard_samples:
            self.close()

    def close(self) -> None:
        """Close the open shard, full or not."""
        if self._writer is not None:
            self._writer.close()
            note_part(self._folder.parent, self._path())
            self._writer = None
            self._shard += 1

    def discard(self) -> None:
        """Throw the open shard away."""
        if self._writer is not None:
            self._writer.discard()


def write_shards(
    section: DataSection,
    background: Color,
    decision: Decision,
    folder: Path,
    pool: Executor | None,
    workers: int,
    advance: Advance,
) -> None:
    """Write the shards of `folder` that are not there yet.

    Raises:
        InputError: a source file is not what it was in the first pass.
    """
    folder.mkdir(exist_ok=True)
    sizes, count = training_sizes(section), section.shard_samples
    places = {
        (side, bucket): SplitShards(folder, shards_name(name, sizes, bucket), count)
        for side, name in SIDES.items()
        for bucket in range(len(sizes) if side == TRAIN else 1)
    }
    settings = PixelSettings(background, section.filters.max_pixels, section.crop)
    remaining = _remaining(section, decision, places, advance)

    def wanted(index: int, record: Record) -> tuple[bytes, bytes, Size]:
        size = sizes[int(decision.bucket[index])]
        return record.image_bytes, decision.image_hashes[index], size

    tasks = ((chunk, ([wanted(*item) for item in chunk], settings)) for chunk in chunks(remaining))
    with contextlib.ExitStack() as stack:
        for shards in places.values():
            stack.callback(shards.discard)
        for chunk, results in ordered_map(pool, _make_all, tasks, 2 * workers):
            for (index, record), pixels in zip(chunk, results, strict=True):
                if pixels is None:
                    raise _changed(record.source)
                parts = {"json": _metadata(record, pixels, decision.image_hashes[index], section)}
                parts["png"] = pixels.png
                places[_place(decision, index)].write(f"{index:09d}", parts)
            advance(len(chunk))
        for shards in places.values():
            shards.close()


def shards_name(split: str, sizes: Sequence[Size], bucket: int) -> str:
    """What the names of a bucket's shards begin with."""
    height, width = sizes[bucket]
    return f"{split}-{height}x{width}" if bucket else split


def _place(decision: Decision, index: int) -> Place:
    return int(decision.side[index]), int(decision.bucket[index])


def _remaining(
    section: DataSection, decision: Decision, places: dict[Place, SplitShards], advance: Advance
) -> Iterator[tuple[int, Record]]:
    """Kept records that no finished shard holds, with their index."""
    passed = dict.fromkeys(places, 0)
    for index, record in enumerate(iter_records(section)):
        if index >= len(decision.side) or decision.side[index] == SKIPPED:
            continue
        place = _place(decision, index)
        passed[place] += 1
        if passed[place] <= places[place].finished:
            advance(1, resumed=True)
        else:
            yield index, record
    if sum(passed.values()) != len(decision.image_hashes):
        raise _changed(", ".join(section.sources))


def _changed(what: str) -> InputError:
    return InputError("source files must stay as they are while they are read", f"{what} changed")


def _metadata(record: Record, pixels: Pixels, image_hash: bytes, section: DataSection) -> bytes:
    group = group_of(record, section.split)
    values: dict[str, Any] = {
        "caption": record.caption,
        "group": group,
        "holdout": holdout(group, image_hash.hex(), section.split),
        "source": record.fields.get("source", record.source),
        "license": record.fields.get("license", ""),
        "original_size": pixels.original_size,
        "crop": pixels.crop,
        "image_hash": image_hash.hex(),
        "fields": record.fields,
    }
    return canonical_json(values).encode()
