"""The record of a finished folder: `artifact.json`, with names, sizes and hashes of its files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from edgekd.files import hash_file, hash_value, write_json

ARTIFACT_FILE = "artifact.json"
# What `artifact.json` holds while a folder grows.
GROWING = {"growing": True}
# Desktops drop these into any folder that somebody looks at.
_DESKTOP = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_RECORD_BYTES = 64 << 20


def finish(root: Path, key: str, only: tuple[str, ...] = (), **facts: Any) -> None:
    """Mark a folder as whole: write its key, its facts and the record of its files.

    Args:
        only: names of the files and folders in it that are the result; () is all there is. A
            folder with more in it than its result cannot be replaced as a whole.
    """
    names = [root / name for name in only] or [root]
    files = [file for name in names for file in _files(name)]
    record = {file.relative_to(root).as_posix(): _stamp(file) for file in files}
    record.pop(ARTIFACT_FILE, None)
    content = {"key": key, **facts, "whole": not only, "files": record}
    write_json(root / ARTIFACT_FILE, {**content, "seal": hash_value(content)})


def restamp(root: Path, name: str) -> None:
    """Renew the record of one file that was changed after the folder was finished."""
    record = read_record(root)
    if record is not None:
        content = {**record, "files": {**record["files"], name: _stamp(root / name)}}
        write_json(root / ARTIFACT_FILE, {**content, "seal": hash_value(content)})


def _files(path: Path) -> list[Path]:
    """Files and links at or below a path; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return [path]
    return [
        Path(folder) / name
        for folder, folders, files in os.walk(path)
        for name in sorted([*files, *(f for f in folders if (Path(folder) / f).is_symlink())])
    ]


def _stamp(path: Path) -> dict[str, Any]:
    if path.is_symlink():
        return {"link": os.readlink(path)}
    return {"bytes": path.stat().st_size, "sha256": hash_file(path)}


def read_record(root: Path) -> dict[str, Any] | None:
    """The content of a folder's `artifact.json`; None: there is none, or it is damaged."""
    record = read_mark(root)
    if not isinstance(record, dict) or not isinstance(record.get("files"), dict):
        return None
    return record if record.pop("seal", None) == hash_value(record) else None


def read_mark(root: Path) -> Any:
    """Whatever `artifact.json` holds; None: it cannot be read."""
    path = root / ARTIFACT_FILE
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _RECORD_BYTES:
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def damage(root: Path, record: dict[str, Any], thorough: bool = False) -> str:
    """The first file that is not as the record says, or "".

    Names and sizes are always compared, hashes where a file was written or renamed after the
    record: short of a failing disk, nothing else can have changed a content.

    Args:
        thorough: compare all hashes.
    """
    since = 0 if thorough else (root / ARTIFACT_FILE).stat().st_ctime_ns
    harmed = (name for name, stamp in record["files"].items() if not _is(root / name, stamp, since))
    return next(harmed, "")


def is_intact(root: Path, name: str) -> bool:
    """Whether a folder's record lists a file, and it is as the record says."""
    record = read_record(root)
    return (
        record is not None and name in record["files"] and _is(root / name, record["files"][name])
    )


def _is(path: Path, stamp: Any, since: int = 0) -> bool:
    """Whether a file is as its stamp says; its hash is compared if it was written `since` then."""
    try:
        if "link" in stamp:
            return path.is_symlink() and os.readlink(path) == str(stamp["link"])
        state = path.lstat()
        if path.is_symlink() or state.st_size != stamp["bytes"]:
            return False
        return state.st_ctime_ns < since or hash_file(path) == stamp["sha256"]
    except (OSError, KeyError, TypeError, ValueError):
        return False


def foreign_entry(root: Path) -> Path | None:
    """Something in a folder that its record does not list; None: there is nothing else.

    A folder without a readable record is foreign itself, unless it is empty.
    """
    record = read_record(root)
    if record is None or not record.get("whole"):
        return next(iter(sorted(root.iterdir())), None) and root
    known = {root / name for name in record["files"]} | {root / ARTIFACT_FILE}
    entries = (path for path in _files(root) if path.name not in _DESKTOP)
    return next((path for path in entries if path not in known), None)
