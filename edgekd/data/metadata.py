"""`metadata.jsonl` and `metadata.csv` of an image folder, as Hugging Face datasets has them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from edgekd.errors import InputError

FILE_COLUMN = "file_name"
METADATA_NAMES = ("metadata.jsonl", "metadata.csv")


def iter_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows in the file's order, each with its image's path relative to the file's folder.

    Raises:
        InputError: a row is not JSON, has no `file_name`, or one that leaves the folder.
    """
    rows = _iter_jsonl(path) if path.suffix == ".jsonl" else _iter_csv(path)
    for where, row in rows:
        yield _inside(row.get(FILE_COLUMN), where), row


def _iter_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with open(path, encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                where = f"`{path}` line {number}"
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise InputError(f"{where} must be JSON", str(error)) from None
                if not isinstance(row, dict):
                    raise InputError(f"{where} must be a JSON object", type(row).__name__)
                yield where, row
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"`{path}` must be readable UTF-8", str(error)) from None


def _iter_csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restkey="_rest")
            for row in reader:
                where = f"`{path}` line {reader.line_num}"
                if "_rest" in row:
                    raise InputError(f"{where} must have one value per column", "more values")
                yield where, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"`{path}` must be readable UTF-8 CSV", str(error)) from None


def _inside(file_name: Any, where: str) -> str:
    """Check that a relative path stays in its folder, under POSIX and Windows rules alike."""
    if not isinstance(file_name, str) or not file_name:
        raise InputError(f"{where} must name its image in `{FILE_COLUMN}`", repr(file_name))
    windows, posix = PureWindowsPath(file_name), PurePosixPath(file_name)
    if posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        raise InputError(f"`{FILE_COLUMN}` in {where} must stay inside the folder", repr(file_name))
    return posix.as_posix()
