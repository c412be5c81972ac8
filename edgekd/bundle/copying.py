"""Copies of templates and models: plain files in a fixed order, and nothing that a build left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from edgekd.errors import InputError
from edgekd.files import hash_file, hash_value, writing
from edgekd.resources import data_root

# What a developer's tools leave in a template.
_BUILT = (
    "node_modules",
    "dist",
    "build",
    ".gradle",
    ".build",
    "__pycache__",
    ".venv",
    "*_cache",
    "*.egg-info",
    ".DS_Store",
)
_EXECUTABLE, _PLAIN = 0o755, 0o644


def tree_files(root: Path, without: tuple[str, ...] = ()) -> Iterator[Path]:
    """The regular files below a folder in order, as paths relative to it.

    Args:
        without: name patterns of files and folders that are left out.
    """
    for folder, folders, files in os.walk(root):
        kept = [name for name in folders if not _matches(name, without)]
        folders[:] = sorted(kept)
        yield from (
            (Path(folder) / name).relative_to(root)
            for name in sorted(files)
            if not _matches(name, without) and (Path(folder) / name).is_file()
        )


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def copy_tree(source: Path, folder: Path, without: tuple[str, ...] = _BUILT) -> None:
    """Copy the files below `source` to `folder`, whose modes depend on nothing but whether they
    are executable.

    Raises:
        InputError: no room, or nothing can be written there.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in tree_files(source, without):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target)
            target.chmod(_EXECUTABLE if os.access(source / name, os.X_OK) else _PLAIN)


def templates_hash() -> str:
    """Hash of all apps that ship with edgekd."""
    root = data_root() / "export_targets"
    rows = [[name.as_posix(), hash_file(root / name)] for name in tree_files(root, _BUILT)]
    return hash_value(rows)


def check_room(
    folder: Path, needed: int, what: str = "the bundle", way: str = "pass another --out"
) -> None:
    """Find out before the work whether a file system has room.

    Args:
        needed: bytes.
        what: is to lie there.
        way: out, but for making room.

    Raises:
        InputError: it has not.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    room = shutil.disk_usage(place).free
    if room < needed:
        raise InputError(
            f"`{place}` must have room for {what}, about {needed / 1e6:.0f} MB",
            f"{room / 1e6:.0f} MB free",
            f"Free some, or {way}.",
        )
