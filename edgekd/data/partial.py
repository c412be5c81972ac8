"""Folders that are filled step by step and survive a kill, and errors of the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgekd.errors import EdgekdError, InputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full or read-only disk into an `InputError` that names the folder."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename or folder} ({error.strerror})"
        if error.errno in _FULL:
            raise InputError(
                "the disk must have room for the output",
                where,
                "Free some and run again: finished parts are kept.",
            ) from None
        if error.errno in _READ_ONLY or isinstance(error, FileExistsError | NotADirectoryError):
            raise InputError(
                "the out folder must be writable", where, "Pass another --out."
            ) from None
        raise


@contextlib.contextmanager
def resumable_folder(final: Path, key: str) -> Iterator[Path]:
    """Yield the folder in which `final` grows; on success it takes that name.

    A later call with the same key finds what an earlier, killed one finished.
    Work for another key is thrown away, and so is all of it when the user's
    input turns out to be wrong.
    """
    partial = final.with_name(f".{final.name}.{key[:16]}.partial")
    with disk_errors(final):
        for other in final.parent.glob(f".{final.name}.*.partial"):
            if other != partial:
                shutil.rmtree(other, ignore_errors=True)
        partial.mkdir(parents=True, exist_ok=True)
        # The second pattern is safetensors' own.
        for temporary in (*partial.rglob(".*.tmp"), *partial.rglob(".tmp??????")):
            temporary.unlink(missing_ok=True)
        try:
            yield partial
        except EdgekdError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _replace(final, partial)


def _replace(final: Path, new: Path) -> None:
    old = final.with_name(f".{final.name}.{os.getpid()}.old")
    if final.exists():
        final.rename(old)
    new.rename(final)
    shutil.rmtree(old, ignore_errors=True)
