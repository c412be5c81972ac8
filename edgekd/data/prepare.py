"""Stage `prepare`: from captioned images as found to shards ready for a teacher.

Two passes over the sources. The first verifies, filters and fingerprints
(`edgekd.data.scan`); the second decodes what is kept once more, resizes, crops
and writes WebDataset shards. Both leave finished parts behind as they go, so a
killed run goes on where it was and writes the same bytes.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.artifacts import PreparedData
from edgekd.data.buckets import training_sizes
from edgekd.data.images import parse_background
from edgekd.data.metadata import find_dialect
from edgekd.data.records import iter_records
from edgekd.data.scan import TRAIN, VALIDATION, Decision, ScanSettings, decide, scan
from edgekd.data.shards import write_shards
from edgekd.data.sources import (
    SourceFile,
    check_sources,
    count_images,
    describe_counts,
    list_sources,
)
from edgekd.data.workers import worker_count, worker_pool
from edgekd.errors import InputError
from edgekd.file_record import finish, is_intact, restamp
from edgekd.files import canonical_json, code_key, hash_file, hash_value, write_json, writing
from edgekd.folders import finished, resumable_folder
from edgekd.parts import note_part
from edgekd.processes.ray_pool import Cluster
from edgekd.progress import Progress
from edgekd.reading import read_object
from edgekd.recipe import DataSection

SKIPPED_FILE = "skipped.jsonl"
HASHES_FILE = "source_hashes.json"
# A file changed within this time of hashing may change again without a new time stamp.
SETTLED_SECONDS = 2.0


def prepare(
    section: DataSection, out: Path, progress: Progress, cluster: Cluster | None = None
) -> PreparedData:
    """Prepare captioned images in folder `out`; nothing is done when its content is up to date.

    This process reads the images and writes the shards, in order; what it takes to verify,
    fingerprint, decode and encode an image is done by workers.

    Args:
        section: sources and settings.
        out: gets `shards/{train,validation}-NNNNNN.tar` (`<key>.png`, `<key>.json`),
            `summary.json`, `skipped.jsonl` and `artifact.json`.
        cluster: whose workers do the work, in place of processes of this machine.

    Raises:
        InputError: sources that are missing or not readable, nothing usable in them, or a
            disk that is full or read-only.
    """
    parse_background(section.background)
    with writing(out):
        known = _known_hashes(out)
        hashes = _hash_sources(section, known, progress)
        key = _content_key(section, hashes)
        facts = finished(out, key, progress.info)
        if facts is not None:
            if hashes.cache != known:
                write_json(out / HASHES_FILE, hashes.cache)
                restamp(out, HASHES_FILE)
            return _result(out, key, facts)
        with resumable_folder(out, key) as partial:
            write_json(partial / HASHES_FILE, hashes.cache)
            note_part(partial, partial / HASHES_FILE)
            kept = _fill(section, partial, progress, cluster)
            facts = {**kept, "resolution": section.side}
            finish(partial, key, **facts)
    return _result(out, key, facts)


def _result(out: Path, key: str, facts: dict[str, Any]) -> PreparedData:
    return PreparedData(out, key, facts["train"], facts["validation"], facts["resolution"])


@dataclass(frozen=True)
class _SourceHashes:
    """`rows`: name and content hash of every source file; `cache`: the same by path and stamp;
    `groups`: by what images of each source are held out."""

    rows: list[tuple[str, str]]
    cache: dict[str, list[Any]]
    groups: list[str]


def _known_hashes(out: Path) -> dict[str, list[Any]]:
    return read_object(out / HASHES_FILE) if is_intact(out, HASHES_FILE) else {}


def _hash_sources(
    section: DataSection, known: dict[str, list[Any]], progress: Progress
) -> _SourceHashes:
    """Hash all source files, except those whose size and time stamp are as remembered."""
    sources = list_sources(section)
    files = [item for source in sources for item in source.files]
    result = _SourceHashes([], {}, [source.group_key for source in sources])
    # Threads are enough: hashing and reading leave the interpreter free.
    with ThreadPoolExecutor() as pool, progress.track("check sources", len(files)) as advance:
        for batch in _batched(files, 1024):
            for item, row in zip(
                batch, pool.map(lambda f: _hash_one(f, known), batch), strict=True
            ):
                result.rows.append((item.name, row[2]))
                if time.time_ns() - row[1] > SETTLED_SECONDS * 1e9:
                    result.cache[str(item.path.resolve())] = row
            advance(len(batch))
    return result


def _batched(items: list[SourceFile], size: int) -> Iterator[list[SourceFile]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _hash_one(item: SourceFile, known: dict[str, list[Any]]) -> list[Any]:
    try:
        state = item.path.stat()
        row = known.get(str(item.path.resolve()))
        if row and row[:2] == [state.st_size, state.st_mtime_ns]:
            return row
        return [state.st_size, state.st_mtime_ns, hash_file(item.path)]
    except OSError as error:
        return [-1, time.time_ns(), f"unreadable: {error.strerror}"]


def _content_key(section: DataSection, hashes: _SourceHashes) -> str:
    settings = section.model_dump(exclude={"sources", "workers"})
    return hash_value([code_key(), hashes.rows, hashes.groups, settings])


def _fill(
    section: DataSection, partial: Path, progress: Progress, cluster: Cluster | None
) -> dict[str, Any]:
    """Both passes; returns the facts of the finished artefact."""
    background, total = parse_background(section.background), count_images(section)
    workers = worker_count(section.workers, total, cluster)
    settings = ScanSettings(background, section.filters, training_sizes(section))
    with worker_pool(workers, cluster) as pool:
        with progress.track("verify images", total) as advance:
            records = iter_records(section)
            scan(records, partial / "scan", settings, section.split, pool, 2 * workers, advance)
        decision = decide(partial / "scan", section.filters, partial / SKIPPED_FILE)
        note_part(partial, partial / SKIPPED_FILE)
        kept = _check_kept(decision, section)
        with progress.track("write shards", sum(kept.values())) as advance:
            write_shards(section, background, decision, partial / "shards", pool, workers, advance)
    shutil.rmtree(partial / "scan")
    _summarise(section, decision, kept, partial, progress)
    return kept


def _check_kept(decision: Decision, section: DataSection) -> dict[str, int]:
    train = int((decision.side == TRAIN).sum())
    validation = int((decision.side == VALIDATION).sum())
    skipped = describe_counts(decision.reasons)
    where = ", ".join(section.sources)
    if train + validation == 0:
        check_sources(section)
        columns = f"; columns seen: {', '.join(decision.columns)}" if decision.columns else ""
        raise InputError(
            "`--data` (`data.sources`) must hold usable captioned images",
            f"none in {where} ({skipped or 'no images at all'}{columns})",
            "`--set data.caption_column=NAME` says which holds the captions." if columns else "",
        )
    if decision.ungrouped == train + validation:
        raise InputError(
            "`data.split.group_key` must be a column of the images",
            f"`{section.split.group_key}`, which none in {where} has (columns seen: "
            f"{', '.join(decision.columns) or 'none'})",
        )
    if not train or not validation:
        raise InputError(
            "both sides of the split must hold at least one image",
            f"{train} for training and {validation} for validation from {where}"
            + (f" ({skipped} skipped)" if skipped else ""),
            "Add images, or change `data.split.image_fraction`.",
        )
    return {"train": train, "validation": validation}


def _summarise(
    section: DataSection,
    decision: Decision,
    kept: dict[str, int],
    partial: Path,
    progress: Progress,
) -> None:
    sources = list_sources(section)
    unused, dialects = Counter(decision.unused), dict[str, str]()
    with open(partial / SKIPPED_FILE, "a", encoding="utf-8") as stream:
        for item in (item for source in sources for item in source.unused):
            unused[item.reason] += 1
            stream.write(canonical_json({"source": item.name, "reason": item.reason}) + "\n")
    for file in (file for source in sources for file in source.files if file.kind == "metadata"):
        dialect = str(find_dialect(file.path, section.max_bytes))
        if dialect:
            dialects[file.name] = dialect
            progress.info(f"  {file.name}: {dialect}")
    buckets = _bucket_counts(section, decision)
    if section.aspect_buckets:
        progress.info(f"  sizes: {describe_counts(buckets)}")
    summary = {
        "records": len(decision.side),
        "kept": kept,
        "skipped": decision.reasons,
        "unused": unused,
        "dialects": dialects,
        "sources": section.sources,
        "resolution": section.side,
        "buckets": buckets,
    }
    write_json(partial / "summary.json", summary)
    said = f"  kept {kept['train']} for training and {kept['validation']} for validation"
    for what, counts in (("skipped", decision.reasons), ("not used", unused)):
        if counts:
            said += f", {what} {sum(counts.values())} ({describe_counts(counts)})"
    progress.info(said)
    if decision.ungrouped:
        lack = f"{decision.ungrouped} lack `{section.split.group_key}`"
        progress.info(f"  {lack}: they are held out by their captions")


def _bucket_counts(section: DataSection, decision: Decision) -> dict[str, int]:
    """Training images by size, height x width."""
    sizes = training_sizes(section)
    counts = np.bincount(decision.bucket[decision.side == TRAIN], minlength=len(sizes)).tolist()
    return {f"{h}x{w}": count for (h, w), count in zip(sizes, counts, strict=True) if count}
