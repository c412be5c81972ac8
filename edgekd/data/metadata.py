"""`metadata.jsonl`, `.csv`, `.tsv` and `.parquet` of image folders, as Hugging Face has them."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from edgekd.data import parquet
from edgekd.data.captions import parse_json, text_encoding
from edgekd.errors import InputError

FILE_COLUMN = "file_name"
METADATA_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.tsv", "metadata.parquet")
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}

Row = dict[str, Any]


@dataclass(frozen=True)
class Dialect:
    """How a table is written."""

    encoding: str = "utf-8-sig"
    delimiter: str = ","

    def __str__(self) -> str:
        """What is unusual about it, or ""."""
        unusual = ["UTF-16"] if self.encoding == "utf-16" else []
        if self.delimiter != ",":
            unusual.append(f"{DELIMITERS[self.delimiter]} between columns")
        return ", ".join(unusual)


def find_dialect(path: Path, max_bytes: int) -> Dialect:
    """Encoding and, of a table, what stands between the columns of its head.

    Raises:
        InputError: the file is not readable text.
    """
    suffix = path.suffix.lower()
    with _text_errors(path):
        if suffix == ".parquet":
            return Dialect()
        with open(path, "rb") as stream:
            encoding = text_encoding(stream.read(2))
        if suffix == ".jsonl":
            return Dialect(encoding)
        head = next(_lines(path, max_bytes), "")
        fits = (d for d in DELIMITERS if FILE_COLUMN in next(csv.reader([head], delimiter=d), []))
        return Dialect(encoding, next(fits, ","))


def iter_rows(path: Path, max_bytes: int, root: Path | None = None) -> Iterator[tuple[str, Row]]:
    """Rows in the file's order, each with its image's path relative to the file's folder.

    Args:
        root: of the source, in which absolute paths must lie; None: the file's folder.

    Raises:
        InputError: a row is not readable or longer than `max_bytes`, has no `file_name`, or one
            that leaves the folder.
    """
    read = {".parquet": _iter_parquet, ".jsonl": _iter_jsonl}.get(path.suffix.lower(), _iter_csv)
    for where, row in read(path, max_bytes):
        yield _inside(row, where, path.parent, root or path.parent), row


@contextlib.contextmanager
def _text_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeError, csv.Error) as error:
        kind = "UTF-8 or UTF-16" + (" CSV" if isinstance(error, csv.Error) else "")
        raise InputError(f"`{path}` must be readable {kind}", str(error)) from None


def _lines(path: Path, max_bytes: int) -> Iterator[str]:
    """Lines with their ends."""
    with _text_errors(path), open(path, "rb") as stream:
        encoding = text_encoding(stream.read(2))
    with _text_errors(path), open(path, encoding=encoding, newline="") as text:
        for number in itertools.count(1):
            line = text.readline(max_bytes)
            if not line:
                return
            if len(line) == max_bytes:
                raise InputError(
                    f"`{path}` line {number} must be shorter than `data.max_bytes`",
                    f"{max_bytes} letters or more",
                )
            yield line


def _iter_jsonl(path: Path, max_bytes: int) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(_lines(path, max_bytes), 1):
        if not line.strip():
            continue
        where = f"`{path}` line {number}"
        try:
            row = parse_json(line)
        except ValueError as error:
            raise InputError(f"{where} must be JSON", str(error)) from None
        if not isinstance(row, dict):
            raise InputError(f"{where} must be a JSON object", type(row).__name__)
        yield where, row


def _iter_csv(path: Path, max_bytes: int) -> Iterator[tuple[str, Row]]:
    delimiter = find_dialect(path, max_bytes).delimiter
    with _text_errors(path):
        reader = csv.DictReader(_lines(path, max_bytes), restkey="_rest", delimiter=delimiter)
        for row in reader:
            where = f"`{path}` line {reader.line_num}"
            if "_rest" in row:
                raise InputError(f"{where} must have one value per column", "more values")
            yield where, row


def _iter_parquet(path: Path, max_bytes: int) -> Iterator[tuple[str, Row]]:
    for number, row in enumerate(parquet.iter_rows(path, max_bytes)):
        where = f"`{path}` row {number}"
        if row is None:
            raise InputError(f"{where} must be smaller than `data.max_bytes`", "a larger one")
        yield where, row


def _inside(row: Row, where: str, folder: Path, root: Path) -> str:
    """An image's path relative to `folder`, checked under POSIX and Windows rules alike."""
    name = row.get(FILE_COLUMN)
    if not isinstance(name, str) or not name:
        columns = f"columns {', '.join(row)}" if FILE_COLUMN not in row else repr(name)
        raise InputError(f"{where} must name its image in `{FILE_COLUMN}`", columns)
    posix = PurePosixPath(name)
    for base in (folder.absolute(), folder.resolve()):
        if posix.is_relative_to(base):
            posix = posix.relative_to(base)
    for base in (root.absolute(), root.resolve()):
        if posix.is_relative_to(base) and ".." not in posix.parts:
            inside = root.resolve() / posix.relative_to(base)
            return Path(os.path.relpath(inside, folder.resolve())).as_posix()
    windows = PureWindowsPath(posix)
    if posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        raise InputError(f"`{FILE_COLUMN}` in {where} must stay inside the folder", repr(name))
    return posix.as_posix()
