"""The record of a finished folder: `artifact.json`, with names, sizes and hashes of its files."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.files import hash_file, hash_value, write_json

ARTIFACT_FILE = "artifact.json"
# What `artifact.json` holds while a folder grows.
GROWING = {"growing": True}
# macOS drops it into any folder that somebody looks at.
_DESKTOP = ".DS_Store"
# The finished parts of a folder that grows over several runs: see `edgekd.parts`.
PARTS_FILE = ".parts.jsonl"
# What people edit in a finished folder; whoever reads it checks it.
_TEXTS = (".json", ".md", ".txt")
# Up to so much is hashed at every reuse.
_CHEAP_BYTES = 1 << 30
_RECORD_BYTES = 64 << 20


def finish(root: Path, key: str, only: tuple[str, ...] = (), **facts: Any) -> None:
    """Mark a folder as whole: write its key, its facts and the record of its files.

    Args:
        only: names of the files and folders in it that are the result; () is all there is. A
            folder with more in it than its result cannot be replaced as a whole.
    """
    names = [root / name for name in only] or [root]
    files = [file for name in names for file in _files(name)]
    record = {file.relative_to(root).as_posix(): stamp(file) for file in files}
    for name in (ARTIFACT_FILE, PARTS_FILE):
        record.pop(name, None)
    content = {"key": key, **facts, "whole": not only, "files": record}
    write_json(root / ARTIFACT_FILE, {**content, "seal": hash_value(content)})


def restamp(root: Path, name: str) -> None:
    """Renew the record of one file that was changed after the folder was finished."""
    record = read_record(root)
    if record is not None:
        content = {**record, "files": {**record["files"], name: stamp(root / name)}}
        write_json(root / ARTIFACT_FILE, {**content, "seal": hash_value(content)})


def _files(path: Path) -> list[Path]:
    """Files, links and empty folders at or below a path; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return [path]
    found = []
    for folder, folders, files in os.walk(path):
        inner = [name for name in folders if (Path(folder) / name).is_symlink()]
        found += [Path(folder) / name for name in sorted([*files, *inner])]
        if not files and not folders and Path(folder) != path:
            found.append(Path(folder))
    return found


def stamp(path: Path) -> dict[str, Any]:
    """What a record says of a file, a link or an empty folder."""
    if path.is_symlink():
        return {"link": os.readlink(path)}
    if path.is_dir():
        return {"folder": True}
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
    """The first file that is missing or not as the record says, or "".

    Names and sizes are always compared. Hashes are too, but in a large folder those of files that
    were written or renamed before the record alone: nothing else than a failing disk, or somebody
    who renews the record's own time, can have changed them since.

    Args:
        thorough: compare all hashes.
    """
    since = 0 if thorough else _hashed_since(root, record)
    harmed = (
        name for name, said in record["files"].items() if not unchanged(root / name, said, since)
    )
    return next(harmed, "")


def _hashed_since(root: Path, record: dict[str, Any]) -> int:
    """The time from which on a file's hash is compared."""
    sizes = (said.get("bytes") for said in record["files"].values() if isinstance(said, dict))
    total = sum(size for size in sizes if isinstance(size, int))
    return 0 if total <= _CHEAP_BYTES else (root / ARTIFACT_FILE).stat().st_ctime_ns


def check_given(root: Path) -> None:
    """A finished folder that a verb is given has the weights that it was finished with.

    A folder without a record may have any. What is not there is missed by whoever needs it: a
    device has no use for an encoder of pictures.

    Raises:
        InputError: a file was changed or cut.
    """
    record = read_record(root) or {"files": {}}
    since = _hashed_since(root, record)
    for name, said in record["files"].items():
        path = root / name
        edited = path.suffix in _TEXTS or not os.path.lexists(path)
        if not edited and not unchanged(path, said, since):
            raise InputError(
                "the weights of a finished folder must be as its record says",
                f"`{path}`, changed or cut",
                f"Make it again, or remove {ARTIFACT_FILE} if the change is yours.",
            )


def is_intact(root: Path, name: str) -> bool:
    """Whether a folder's record lists a file, and it is as the record says."""
    stamps = (read_record(root) or {"files": {}})["files"]
    return name in stamps and unchanged(root / name, stamps[name])


def unchanged(path: Path, said: Any, since: int = 0) -> bool:
    """Whether a file is as its stamp says; its hash is compared if it was written `since` then."""
    try:
        if "link" in said:
            return path.is_symlink() and os.readlink(path) == str(said["link"])
        if "folder" in said:
            return path.is_dir() and not path.is_symlink()
        state = path.lstat()
        if not stat.S_ISREG(state.st_mode) or state.st_size != said["bytes"]:
            return False
        return state.st_ctime_ns < since or hash_file(path) == said["sha256"]
    except (OSError, KeyError, TypeError, ValueError):
        return False


def foreign_entry(root: Path, changed: bool = False) -> Path | None:
    """Something in a folder that its record does not list; None: there is nothing else.

    A folder without a readable record is foreign itself, unless it is empty.

    Args:
        changed: what the record lists, and somebody changed, counts too.
    """
    record = read_record(root)
    if record is None or not record.get("whole"):
        return root if any(root.iterdir()) else None
    known, since = record["files"], _hashed_since(root, record)
    for path in _files(root):
        name = path.relative_to(root).as_posix()
        if name == ARTIFACT_FILE or path.name == _DESKTOP:
            continue
        if name not in known or (changed and not unchanged(path, known[name], since)):
            return path
    return None
