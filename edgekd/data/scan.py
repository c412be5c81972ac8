"""First pass over the records: verify, filter, and take fingerprints.

The outcome of each record is one line of `scan/NNNNNN.jsonl`; a finished part
is never made again. From all parts together follows what is kept.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.data.buckets import Size, nearest_bucket
from edgekd.data.dedupe import THUMBNAIL_BYTES, find_duplicates, fingerprint
from edgekd.data.images import BadImageError, Color, open_image, to_rgb
from edgekd.data.records import Record
from edgekd.data.split import group_of, holdout
from edgekd.files import canonical_json, write_text
from edgekd.parts import note_part
from edgekd.processes.pool import ordered_map
from edgekd.progress import Advance
from edgekd.recipe import FilterSection, SplitSection

PART_RECORDS = 2_048
CHUNK_RECORDS = 32
CHUNK_BYTES = 16 * 1024 * 1024
# JPEG decoders shrink for free; fingerprints need no more than this.
DRAFT_SIDE = 256

SKIPPED, TRAIN, VALIDATION = 0, 1, 2


@dataclass(frozen=True)
class ScanSettings:
    """What decides about one image by itself."""

    background: Color
    filters: FilterSection
    buckets: list[Size]


@dataclass(frozen=True)
class Decision:
    """What becomes of each record.

    Attributes:
        side: `uint8 [N]` of SKIPPED, TRAIN, VALIDATION.
        bucket: `uint16 [N]`, of training images.
        image_hashes: SHA-256 digest by record index, of the kept records.
        reasons: number of records skipped, by reason, in order of first appearance.
        unused: number of members and texts that no record uses, by reason.
        columns: seen in records without a caption, or without `data.split.group_key`.
        ungrouped: kept records without that field.
    """

    side: npt.NDArray[np.uint8]
    bucket: npt.NDArray[np.uint16]
    image_hashes: dict[int, bytes]
    reasons: dict[str, int]
    unused: dict[str, int]
    columns: list[str]
    ungrouped: int = 0


NO_CAPTION = "no caption"


def inspect_caption(caption: str, filters: FilterSection) -> str:
    """Why a caption is not usable, or ""."""
    if any("\ud800" <= letter <= "\udfff" for letter in caption):
        return "unreadable caption"  # half a code point, which no tokenizer takes
    if not caption and filters.min_caption_chars > 0:
        return NO_CAPTION
    if len(caption) < filters.min_caption_chars:
        return "caption too short"
    return "caption too long" if len(caption) > filters.max_caption_chars else ""


def inspect_image(image_bytes: bytes, settings: ScanSettings) -> dict[str, Any]:
    """Fingerprints of one image file as text and its bucket, or `{"reason": why it is not
    usable}`."""
    filters = settings.filters
    try:
        image = open_image(image_bytes, filters.max_pixels)
        if min(image.size) < filters.min_side:
            return {"reason": "smaller than min_side"}
        if max(image.size) > filters.max_aspect * min(image.size):
            return {"reason": "longer than max_aspect"}
        image.draft(None, (DRAFT_SIDE, DRAFT_SIDE))
        upright = to_rgb(image, settings.background)
        phash, thumbnail = fingerprint(upright)
    except BadImageError as error:
        return {"reason": str(error)}
    digest = hashlib.sha256(image_bytes).hexdigest()
    # The reduced image has the aspect to 1 part in 256, which is as good for this.
    bucket = nearest_bucket((upright.height, upright.width), settings.buckets)
    prints = {"image_hash": digest, "phash": f"{phash:016x}", "thumbnail": thumbnail.hex()}
    return {**prints, "bucket": bucket}


def _inspect_images(
    argument: tuple[list[bytes], ScanSettings],
) -> list[dict[str, Any]]:
    images, settings = argument
    return [inspect_image(image_bytes, settings) for image_bytes in images]


def chunks(records: Iterable[tuple[int, Record]]) -> Iterator[list[tuple[int, Record]]]:
    """Group a stream into lists that are bounded in number and in bytes."""
    chunk: list[tuple[int, Record]] = []
    size = 0
    for index, record in records:
        chunk.append((index, record))
        size += len(record.image_bytes)
        if len(chunk) >= CHUNK_RECORDS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def scan(
    records: Iterator[Record],
    folder: Path,
    settings: ScanSettings,
    split: SplitSection,
    pool: Executor | None,
    ahead: int,
    advance: Advance,
) -> None:
    """Write the parts of `folder` that are not there yet."""
    folder.mkdir(exist_ok=True)
    numbers = itertools.takewhile(lambda n: _part(folder, n).is_file(), itertools.count())
    done = sum(1 for _ in numbers) * PART_RECORDS
    advance(sum(1 for _ in itertools.islice(records, done)), resumed=True)
    rows = _rows(records, settings, split, pool, ahead, advance)
    for number in itertools.count(done // PART_RECORDS):
        part = list(itertools.islice(rows, PART_RECORDS))
        if part:
            text = "".join(canonical_json(row) + "\n" for row in part)
            write_text(_part(folder, number), text)
            note_part(folder.parent, _part(folder, number))
        if len(part) < PART_RECORDS:
            return


def _rows(
    records: Iterator[Record],
    settings: ScanSettings,
    split: SplitSection,
    pool: Executor | None,
    ahead: int,
    advance: Advance,
) -> Iterator[dict[str, Any]]:
    def tasks() -> Iterator[tuple[list[Record], tuple[list[bytes], ScanSettings]]]:
        for chunk in chunks(enumerate(records)):
            found = [record for _, record in chunk]
            usable = [r.image_bytes for r in found if not _record_problem(r, settings)]
            yield found, (usable, settings)

    for found, results in ordered_map(pool, _inspect_images, tasks(), ahead):
        remaining = iter(results)
        for record in found:
            problem = _record_problem(record, settings)
            row: dict[str, Any] = {"reason": problem} if problem else next(remaining)
            row = {"source": record.source, **row}
            if "image_hash" in row:
                row["holdout"] = holdout(group_of(record, split), row["image_hash"], split)
            grouped = not split.group_key or bool(record.fields.get(split.group_key))
            if problem == NO_CAPTION or not grouped:
                row["columns"] = sorted(record.fields)
            if not grouped:
                row["ungrouped"] = True
            if record.unused:
                row["unused"] = [[item.name, item.reason] for item in record.unused]
            yield row
        advance(len(found))


def _record_problem(record: Record, settings: ScanSettings) -> str:
    return record.problem or inspect_caption(record.caption, settings.filters)


def _part(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.jsonl"


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def iter_scan(folder: Path) -> Iterator[dict[str, Any]]:
    """All rows of a finished scan, in record order."""
    for part in _parts(folder):
        with open(part, encoding="utf-8") as stream:
            for line in stream:
                yield json.loads(line)


def decide(folder: Path, filters: FilterSection, skipped_path: Path) -> Decision:
    """Find duplicates, settle every record's side and list the skipped ones.

    `skipped_path` gets one JSON line for each skipped record and for each member or text that
    no record uses: its source, the reason, and for a duplicate the source of its twin.
    """
    usable, digests, phashes, thumbnails, held_out, buckets = _load(folder)
    duplicates = find_duplicates(
        digests, phashes, thumbnails, held_out, filters.duplicate_distance, filters.duplicate_rms
    )
    kept = duplicates.twin < 0
    positions = np.flatnonzero(usable)
    side = np.zeros(len(usable), np.uint8)
    side[positions[kept]] = np.where(held_out[kept], VALIDATION, TRAIN)
    bucket = np.zeros(len(usable), np.uint16)
    bucket[positions] = np.where(held_out, 0, buckets)
    twins = dict(zip(positions[~kept].tolist(), positions[duplicates.twin[~kept]], strict=True))
    exact = set(positions[duplicates.exact].tolist())
    sources = _sources_of(folder, {int(twin) for twin in twins.values()})
    reasons, unused, columns, ungrouped = Counter[str](), Counter[str](), set[str](), 0
    with open(skipped_path, "w", encoding="utf-8") as stream:
        for index, row in enumerate(iter_scan(folder)):
            if side[index] == SKIPPED:
                entry = {"source": row["source"], "reason": row.get("reason")}
                if index in twins:
                    entry["reason"] = f"{'exact' if index in exact else 'near'} duplicate"
                    entry["of"] = sources[int(twins[index])]
                reasons[entry["reason"]] += 1
                stream.write(canonical_json(entry) + "\n")
            columns |= {*row.get("columns", ())}
            ungrouped += side[index] != SKIPPED and "ungrouped" in row
            for name, reason in row.get("unused", ()):
                unused[reason] += 1
                stream.write(canonical_json({"source": name, "reason": reason}) + "\n")
    hashes = {int(p): digests[i] for i, p in enumerate(positions) if kept[i]}
    return Decision(side, bucket, hashes, reasons, unused, sorted(columns), ungrouped)


def _sources_of(folder: Path, indices: set[int]) -> dict[int, str]:
    return {i: row["source"] for i, row in enumerate(iter_scan(folder)) if i in indices}


def _load(
    folder: Path,
) -> tuple[
    npt.NDArray[np.bool_],
    list[bytes],
    npt.NDArray[np.uint64],
    npt.NDArray[np.uint8],
    npt.NDArray[np.bool_],
    npt.NDArray[np.uint16],
]:
    usable, digests, phashes, held_out = [], list[bytes](), list[int](), list[bool]()
    thumbnails, buckets = bytearray(), list[int]()
    for row in iter_scan(folder):
        usable.append("image_hash" in row)
        if usable[-1]:
            digests.append(bytes.fromhex(row["image_hash"]))
            phashes.append(int(row["phash"], 16))
            thumbnails += bytes.fromhex(row["thumbnail"])
            held_out.append(row["holdout"] != "train")
            buckets.append(row["bucket"])
    return (
        np.array(usable, np.bool_),
        digests,
        np.array(phashes, np.uint64),
        np.frombuffer(thumbnails, np.uint8).reshape(-1, THUMBNAIL_BYTES),
        np.array(held_out, np.bool_),
        np.array(buckets, np.uint16),
    )
