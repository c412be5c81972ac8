"""Readers: folders, parquet files and WebDataset tars as one stream of captioned images.

Records come in a fixed order (sources as given, files by name, rows as
stored), one at a time; only file names are held in memory.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from edgekd.data.images import SUFFIXES
from edgekd.data.metadata import FILE_COLUMN, METADATA_NAMES, iter_rows
from edgekd.data.tars import iter_samples
from edgekd.errors import InputError
from edgekd.resources import STARTER, STARTER_NAME

STARTER_PARQUET = STARTER / "emoji-64.parquet"
IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp")
CAPTION_COLUMNS = ("caption", "text", "txt")
RECORD_KINDS = ("image", "parquet", "tar")
USED_KINDS = (*RECORD_KINDS, "metadata", "txt")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True)
class Record:
    """One captioned image as found.

    `source` says where (file, and row or member); `caption` is "" where there is none;
    `fields` are the other columns as text; `problem` is why the image or its caption could
    not be read, else "".
    """

    image_bytes: bytes
    caption: str
    source: str
    fields: dict[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class SourceFile:
    """One file of a source. `name` is the path shown: it starts with the source's own name."""

    path: Path
    name: str


def list_files(sources: list[str]) -> list[list[SourceFile]]:
    """All files of each source, sorted by name. Hidden files and folders are left out.

    Raises:
        InputError: a path does not exist or a glob matches nothing.
    """
    return [files for source in sources for files in _source_files(source)]


def check_sources(sources: list[str]) -> None:
    """Look for what the sources name, before anything is read.

    Raises:
        InputError: as `list_files`; also sources without any image.
    """
    files = [item for group in list_files(sources) for item in group]
    if not any(_kind(item.path) in (*RECORD_KINDS, "metadata") for item in files):
        raise InputError(
            "`--data` (`data.sources`) must hold captioned images",
            f"no images, parquet files or tars in {', '.join(sources)}",
        )


def _source_files(source: str) -> Iterator[list[SourceFile]]:
    if source == STARTER_NAME:
        yield [SourceFile(STARTER_PARQUET, STARTER_PARQUET.name)]
        return
    for path in _expand(source):
        if path.is_dir():
            yield _walk(path)
        else:
            yield [SourceFile(path, path.name), *_beside(path)]


def _expand(source: str) -> list[Path]:
    path = Path(source).expanduser()
    if path.is_dir() or (path.is_file() and _kind(path) in RECORD_KINDS):
        return [path]
    if path.exists():
        raise InputError(
            "a file in `--data` (`data.sources`) must be an image, a parquet file or a tar",
            repr(source),
            "For captions in metadata or text files give their folder.",
        )
    if not glob.has_magic(source):
        raise InputError(
            "each of `--data` (`data.sources`) must be a local path, a glob or `starter`",
            f"{source!r} (no such file or folder)",
        )
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    usable = [match for match in matches if match.is_dir() or _kind(match) in RECORD_KINDS]
    if not usable:
        raise InputError(
            "a glob in `--data` (`data.sources`) must match folders, images, parquet files or tars",
            f"{source!r} with {len(matches)} other matches",
        )
    return usable


def _kind(path: Path) -> str:
    name = path.name.lower()
    if name.endswith(TAR_SUFFIXES):
        return "tar"
    if name in METADATA_NAMES:
        return "metadata"
    suffix = path.suffix.lower()
    return "image" if suffix in SUFFIXES else suffix.removeprefix(".")


def _beside(path: Path) -> list[SourceFile]:
    caption = path.with_suffix(".txt")
    if _kind(path) == "image" and caption.is_file():
        return [SourceFile(caption, caption.name)]
    return []


def count_images(sources: list[str]) -> int | None:
    """How many images the sources hold, about; None where a tar would have to be read for it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 0
    for item in (item for files in list_files(sources) for item in files):
        kind = _kind(item.path)
        if kind == "tar":
            return None
        if kind == "parquet":
            try:
                count += pq.read_metadata(item.path).num_rows
            except (pa.ArrowInvalid, OSError):
                return None
        count += kind == "image"
    return count


def _walk(root: Path) -> list[SourceFile]:
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [Path(folder) / name for name in names if not name.startswith(".")]
    prefix = root.resolve().name
    used = (path for path in found if _kind(path) in USED_KINDS)
    relative = sorted(path.relative_to(root).as_posix() for path in used)
    return [SourceFile(root / name, f"{prefix}/{name}") for name in relative]


def iter_records(sources: list[str]) -> Iterator[Record]:
    """Stream all records of all sources.

    Args:
        sources: folders (captions in `.txt` files beside the images, or in
            `metadata.jsonl` / `metadata.csv` with `file_name` and `text` or
            `caption`), parquet files, WebDataset tars, image files, globs of
            them, or `starter`.

    Raises:
        InputError: a source does not exist or is not readable as its kind.
    """
    for files in list_files(sources):
        yield from _iter_files(files)


def _iter_files(files: list[SourceFile]) -> Iterator[Record]:
    described: set[str] = set()
    images = {item.name: item.path for item in files if _kind(item.path) == "image"}
    for item in files:
        if _kind(item.path) == "metadata":
            for file_name, row in iter_rows(item.path):
                name = (PurePosixPath(item.name).parent / file_name).as_posix()
                described.add(name)
                yield _described_image(images.get(name), name, row)
    for item in files:
        kind = _kind(item.path)
        if kind == "parquet":
            yield from _iter_parquet(item)
        elif kind == "tar":
            yield from (
                _tar_record(parts, f"{item.name}#{key}") for key, parts in iter_samples(item.path)
            )
        elif kind == "image" and item.name not in described:
            yield _read_image(item)


def _described_image(path: Path | None, name: str, row: dict[str, Any]) -> Record:
    fields, caption = text_fields(row, (FILE_COLUMN, *CAPTION_COLUMNS)), find_caption(row)
    if path is None:
        return Record(b"", caption, name, fields, problem="no such image file")
    return _read_file(path, name, caption, fields)


def _read_image(item: SourceFile) -> Record:
    caption_path = item.path.with_suffix(".txt")
    try:
        caption = caption_path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        caption = ""
    except (OSError, UnicodeDecodeError):
        return Record(b"", "", item.name, problem="unreadable caption")
    return _read_file(item.path, item.name, caption, {})


def _read_file(path: Path, name: str, caption: str, fields: dict[str, str]) -> Record:
    """A record whose image is a file; one that cannot be read becomes a record with a problem."""
    try:
        return Record(path.read_bytes(), caption, name, fields)
    except OSError:
        return Record(b"", caption, name, fields, problem="unreadable file")


def text_fields(row: dict[str, Any], without: tuple[str, ...]) -> dict[str, str]:
    """Scalars and lists of a row as text; nulls, bytes and nested values are left out."""
    result = {}
    for key, value in row.items():
        if key in without or value is None or isinstance(value, bytes | dict):
            continue
        if isinstance(value, list | tuple):
            value = ", ".join(str(item) for item in value)
        result[str(key)] = str(value)
    return result


def find_caption(row: dict[str, Any]) -> str:
    """The first of `caption`, `text`, `txt` that holds text; of a list the first entry; else ""."""
    for key in CAPTION_COLUMNS:
        value = row.get(key)
        if isinstance(value, list | tuple) and value:
            value = value[0]
        if isinstance(value, str) and value.strip():
            return value.strip()
    return ""


def _iter_parquet(item: SourceFile) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(item.path, buffer_size=1 << 20) as table:
            names = table.schema_arrow.names
            column = next((name for name in IMAGE_COLUMNS if name in names), None)
            if column is None:
                raise InputError(
                    f"a parquet file must have a column named {' or '.join(IMAGE_COLUMNS)}",
                    f"{item.path} with {', '.join(names)}",
                )
            row_number = 0
            for batch in table.iter_batches(batch_size=16):
                for row in batch.to_pylist():
                    yield _parquet_record(row, column, f"{item.name}#{row_number}")
                    row_number += 1
    # pyarrow reports damage also by an OSError without a number, and text that is none by Python's
    # own error.
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError, OSError) as error:
        closed = isinstance(error, OSError) and error.errno is not None
        raise InputError(
            f"`{item.path}` must be {'readable' if closed else 'a parquet file'}",
            " ".join(str(error).split()),
        ) from None


def _parquet_record(row: dict[str, Any], column: str, source: str) -> Record:
    value = row[column]
    if isinstance(value, dict):
        value = value.get("bytes")
    fields = text_fields(row, (column, *CAPTION_COLUMNS))
    if not isinstance(value, bytes):
        return Record(b"", find_caption(row), source, fields, problem="no image bytes")
    return Record(value, find_caption(row), source, fields)


def _tar_record(parts: dict[str, bytes], source: str) -> Record:
    image = next((name for name in parts if f".{name.split('.')[-1]}" in SUFFIXES), None)
    row: dict[str, Any] = {}
    try:
        if "json" in parts:
            loaded = json.loads(parts["json"])
            row = loaded if isinstance(loaded, dict) else {}
        for name in ("txt", "text", "caption"):
            if name in parts:
                row["caption"] = parts[name].decode("utf-8")
    except (ValueError, UnicodeDecodeError):
        return Record(b"", "", source, problem="unreadable caption")
    fields = text_fields(row, CAPTION_COLUMNS)
    if image is None:
        return Record(b"", find_caption(row), source, fields, problem="no image in sample")
    return Record(parts[image], find_caption(row), source, fields)
