"""Readers: folders, parquet files and WebDataset tars as one stream of captioned images.

Records come in a fixed order (sources as given, files by name, rows as
stored), one at a time; only file names are held in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekd.data import metadata, parquet
from edgekd.data.captions import decode_text, find_caption, parse_json, text_fields
from edgekd.data.images import image_suffixes, unread_image
from edgekd.data.sources import DataSource, SourceFile, Unused, list_sources
from edgekd.data.tars import Sample, iter_samples
from edgekd.errors import InputError
from edgekd.recipe import SourcesSection

Row = metadata.Row

TOO_LARGE = "larger than max_bytes"
TEXT_PARTS = ("caption", "text", "txt")  # the first of a sample is its caption
FIELDS_PART = "json"
BESIDE = "beside the image and caption of its sample"


@dataclass(frozen=True)
class Record:
    """One captioned image as found.

    `source` says where (file, and row or member); `caption` is "" where there is none;
    `fields` are the other columns as text; `problem` is why the image or its caption could
    not be read, else ""; `unused` is what belongs to it and is not read; `group_key` is the
    field that groups renderings of one thing, where the source is known to have one.
    """

    image_bytes: bytes
    caption: str
    source: str
    fields: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    unused: tuple[Unused, ...] = ()
    group_key: str = ""


def iter_records(section: SourcesSection) -> Iterator[Record]:
    """Stream all records of all sources.

    Raises:
        InputError: a source does not exist or is not readable as its kind.
    """
    for source in list_sources(section):
        for record in _iter_source(source, section):
            yield replace(record, group_key=source.group_key) if source.group_key else record


def _iter_source(source: DataSource, section: SourcesSection) -> Iterator[Record]:
    folder = _Folder(source, section)
    for item in source.files:
        if item.kind == "metadata":
            for file_name, row in metadata.iter_rows(item.path, section.max_bytes, source.root):
                yield folder.described(item, file_name, row)
    for item in source.files:
        if item.kind == "parquet":
            yield from _iter_parquet(item, section)
        elif item.kind == "tar":
            yield from _iter_tar(item, section)
        elif item.kind == "image" and item.name not in folder.read:
            yield folder.image(item, {})


class _Folder:
    """The image files of one source, with the texts beside them and rows of metadata."""

    def __init__(self, source: DataSource, section: SourcesSection) -> None:
        self._source, self._section = source, section
        self._images = {item.name: item for item in source.files if item.kind == "image"}
        self._beside: dict[str, list[SourceFile]] = {}
        for item in source.files:
            if item.kind in ("caption", "fields"):
                self._beside.setdefault(item.stem, []).append(item)
        self._unused = {item.name: item.reason for item in source.unused}
        self.read: set[str] = set()

    def described(self, table: SourceFile, file_name: str, row: Row) -> Record:
        """The record of one row of metadata."""
        path = table.path.parent / file_name
        name = self._source.name_of(path)
        item = self._images.get(name) or self._linked(path)
        if item is None:
            problem = self._unused.get(name, "no such image file")
            return replace(_record(b"", "", row, name, self._section), problem=problem)
        self.read.add(item.name)
        return self.image(item, row)

    def _linked(self, path: Path) -> SourceFile | None:
        """The image that a path through a linked folder leads to, under its own name."""
        root = self._source.root.resolve()
        try:
            inside = Path(os.path.realpath(path)).relative_to(root)
        except ValueError:  # outside, or no path at all, as with a NUL
            return None
        return self._images.get(self._source.name_of(self._source.root / inside))

    def image(self, item: SourceFile, row: Row) -> Record:
        """An image file with the texts beside it; a row's values stand above theirs."""
        section, texts, unused = self._section, dict[str, bytes](), list[Unused]()
        described = bool(find_caption(row, section.caption_column)[1])
        try:
            for text in self._beside.get(item.stem, ()):
                part = FIELDS_PART if text.kind == "fields" else TEXT_PARTS[0]
                if part in texts or (described and part != FIELDS_PART):
                    unused.append(Unused(text.name, BESIDE))
                else:
                    texts[part] = _read(text.path, section.max_bytes)
        except (OSError, ValueError):
            return Record(b"", "", item.name, problem="unreadable caption")
        try:
            image = _read(item.path, section.max_bytes)
        except (OSError, ValueError) as error:
            problem = TOO_LARGE if isinstance(error, ValueError) else "unreadable file"
            return replace(_record(b"", "", row, item.name, section), problem=problem)
        record = _with_texts(image, texts, row, item.name, section)
        return replace(record, unused=tuple(unused))


def _read(path: Path, limit: int) -> bytes:
    """A file's content.

    Raises:
        ValueError: it is larger than the limit.
    """
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > limit:
            raise ValueError(TOO_LARGE)
        return stream.read(size)


def _with_texts(
    image: bytes, texts: dict[str, bytes], row: Row, name: str, section: SourcesSection
) -> Record:
    """A record from an image and the texts that belong to it, by part of a sample."""
    try:
        if FIELDS_PART in texts:
            beside = parse_json(decode_text(texts[FIELDS_PART]))
            row = {**(beside if isinstance(beside, dict) else {}), **row}
        part = next((part for part in TEXT_PARTS if part in texts), None)
        text = decode_text(texts[part]) if part else ""
    except ValueError:
        return Record(b"", "", name, problem="unreadable caption")
    return _record(image, text, row, name, section)


def _record(image: bytes, text: str, row: Row, name: str, section: SourcesSection) -> Record:
    """A record of a row; a `text` of its own is the caption unless the recipe names a column."""
    column, caption = find_caption(row, section.caption_column)
    if text and not (caption and section.caption_column):
        column, caption = "", text
    fields = text_fields(row, (column, metadata.FILE_COLUMN))
    return Record(image, caption, name, fields)


def _iter_parquet(item: SourceFile, section: SourcesSection) -> Iterator[Record]:
    columns = parquet.columns_of(item.path)
    column = parquet.image_column(columns, section.image_key)
    if columns and column is None:
        names = (section.image_key,) if section.image_key else parquet.IMAGE_COLUMNS
        raise InputError(
            f"a parquet file must have a column named {' or '.join(names)}",
            f"{item.path} with {', '.join(columns)}",
        )
    for number, row in enumerate(parquet.iter_rows(item.path, section.max_bytes, column)):
        name = f"{item.name}#{number}"
        if row is None:
            yield Record(b"", "", name, problem=TOO_LARGE)
            continue
        value = row.pop(column, None) if column else None
        if isinstance(value, dict):
            value = value.get("bytes")
        if isinstance(value, bytes):
            yield _record(value, "", row, name, section)
        else:
            yield replace(_record(b"", "", row, name, section), problem="no image bytes")


def _iter_tar(item: SourceFile, section: SourcesSection) -> Iterator[Record]:
    key = section.image_key and section.image_key.lower()

    def is_read(part: str) -> bool:
        return part in (*TEXT_PARTS, FIELDS_PART, key) or _is_image(part)

    for sample in iter_samples(item.path, section.max_bytes, is_read):
        yield _tar_record(sample, item.name, key, section)


def _is_image(part: str) -> bool:
    return f".{part.rpartition('.')[2]}" in image_suffixes()


def _tar_record(sample: Sample, tar: str, key: str | None, section: SourcesSection) -> Record:
    name, parts = f"{tar}#{sample.key}", sample.parts
    image = _image_part(sample, name, key)
    caption = next((part for part in TEXT_PARTS if part in parts), None)
    used = {part: parts[part] for part in (image, caption, FIELDS_PART) if part in parts}
    contents = {part: content for part, content in used.items() if content is not None}
    problem = sample.problem or (TOO_LARGE if len(contents) < len(used) else "")
    record = Record(b"", "", name)
    if not problem:
        content = contents.pop(image, b"") if image else b""
        record = _with_texts(content, contents, {}, name, section)
        missing = f"no part `{key}` in sample" if key else "no image in sample"
        problem = record.problem or ("" if image else missing)
    rest = [f"{sample.key}.{part}" for part in parts if part not in used]
    unused = tuple(
        Unused(f"{tar}#{found}", unread_image(found) or BESIDE) for found in (*rest, *sample.unread)
    )
    return replace(record, problem=problem, unused=unused)


def _image_part(sample: Sample, name: str, key: str | None) -> str | None:
    """The part that is the image: the recipe's, else the only one; `jpg` before `depth.png`.

    Raises:
        InputError: several parts might be it.
    """
    if key:
        return key if key in sample.parts else None
    images = [part for part in sample.parts if _is_image(part)]
    images = [part for part in images if "." not in part] or images
    if len(images) > 1:
        raise InputError(
            "`data.image_key` must say which part is the image where a sample has several",
            f"{', '.join(images)} in {name}",
        )
    return images[0] if images else None
