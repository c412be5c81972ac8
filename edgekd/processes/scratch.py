"""Temporary folders that a killed process leaves are removed by the next one that makes one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

MARKER = ".edgekd-scratch"
_PREFIX = "edgekd-"
_NAME = re.compile(rf"{_PREFIX}[a-z0-9_]{{8}}")  # as `mkdtemp` makes them


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder in the system's temporary folder, removed afterwards.

    Its marker is locked while its owner lives: the system lets go of the lock of a killed process.
    """
    remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        new = folder / f"{MARKER}.new"
        with open(new, "w") as marker:
            fcntl.flock(marker, fcntl.LOCK_EX)
            new.rename(folder / MARKER)  # never to be seen unlocked
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned() -> None:
    """Remove this user's scratch folders whose owner is dead, and nothing else."""
    with os.scandir(tempfile.gettempdir()) as entries:
        found = [entry.path for entry in entries if _is_ours(entry)]
    for path in found:
        # Another user's rights, an owner that is about to remove it itself, or no marker.
        with contextlib.suppress(OSError):
            _remove_unlocked(Path(path))


def _is_ours(entry: os.DirEntry[str]) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return (
            _NAME.fullmatch(entry.name) is not None
            and entry.is_dir(follow_symlinks=False)
            and entry.stat(follow_symlinks=False).st_uid == os.getuid()
        )
    return False


def _remove_unlocked(folder: Path) -> None:
    marker = os.open(folder / MARKER, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if stat.S_ISREG(os.fstat(marker).st_mode):
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(marker)
