"""What a file system can refuse, as one clear line each."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgekd.errors import InputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
# A file in a folder's place, and a name that the file system does not take.
_NO_FOLDER = (errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def disk_problem(error: OSError, folder: Path) -> InputError | None:
    """The line for an error that the user can do something about; None for any other.

    Args:
        folder: named where the error names no file.
    """
    where = f"{error.filename or folder} ({error.strerror})"
    if error.errno in _FULL:
        fix = "Free some and run again: finished parts are kept."
        return InputError("the disk must have room for the output", where, fix)
    if error.errno in (*_CLOSED, *_NO_FOLDER):
        return InputError("the out folder must be writable", where, "Pass another --out.")
    return None


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full or read-only disk into an `InputError` that names the folder."""
    try:
        yield
    except OSError as error:
        problem = disk_problem(error, folder)
        if problem is None:
            raise
        raise problem from None


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into an `InputError`, from safetensors' writer too.

    Raises:
        InputError: no space left, read-only, no permission, a file in a folder's place.
    """
    from safetensors import SafetensorError

    with disk_errors(path):
        try:
            yield
        except SafetensorError as error:
            # safetensors keeps the system's error number in its text only.
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            code = int(number[1])
            raise OSError(code, os.strerror(code), str(path)) from None


@contextlib.contextmanager
def making(folder: Path) -> Iterator[None]:
    """As `disk_errors`, while a folder is made: some places, as `/proc`, have room for none."""
    try:
        with disk_errors(folder):
            yield
    except FileNotFoundError as error:
        found = f"{folder} ({error.strerror})"
        raise InputError("the out folder must be writable", found, "Pass another --out.") from None


def check_writable(out: Path) -> None:
    """Find out before the work, not after it, whether a folder can be made or filled.

    Raises:
        InputError: nothing can be written there.
    """
    with making(out):
        try:
            place = next(path for path in (out, *out.absolute().parents) if path.exists())
            with tempfile.TemporaryDirectory(prefix=".edgekd-", dir=place):
                pass
        except OSError as error:
            error.filename = str(out)  # not the name of the trial
            raise
