"""Files written whole or not at all, hashes, JSON, and what a file system can refuse."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgekd.errors import DiskError, InputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
# A file in a folder's place, and a name that the file system does not take.
_NO_FOLDER = (errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
_PACKAGE = Path(__file__).resolve().parent


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def hash_value(value: Any) -> str:
    """SHA-256 (hex) of a JSON-able value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 (hex) of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def hash_tree(root: Path, exclude: tuple[str, ...] = ()) -> str:
    """SHA-256 (hex) over names and contents of all files below `root`, order-independent."""
    rows = [
        [path.relative_to(root).as_posix(), hash_file(path)]
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in exclude
    ]
    return hash_value(rows)


@functools.cache
def code_key() -> str:
    """What stands for edgekd's code in content keys.

    In a checkout it is a hash of the package's sources, templates and tables, so that no artefact
    of other code is taken for up to date; an installed package does not change and is known by its
    version. The starter's data and teacher have content keys of their own.
    """
    from edgekd import __version__

    if not (_PACKAGE.parent / "pyproject.toml").is_file():
        return __version__
    return hash_code("**/*.py", "**/*.j2", "**/*.yaml")


def hash_code(*patterns: str) -> str:
    """SHA-256 (hex) over names and contents of edgekd's own files that match a pattern."""
    found = sorted({path for pattern in patterns for path in _PACKAGE.glob(pattern)})
    return hash_value([[path.relative_to(_PACKAGE).as_posix(), hash_file(path)] for path in found])


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a new file name beside `path`; what is written there takes its place on success.

    The temporary name keeps the suffix, by which libraries choose a format.

    Raises:
        InputError: the disk is full or read-only; `path` stays as it was.
    """
    remove_temporary_files(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        with writing(path):
            yield temporary
            _flush(temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporary_files(path: Path) -> None:
    """Remove what killed processes left of `path`: `.<stem>.<pid>.tmp<suffix>`, nothing else."""
    pattern = re.compile(rf"\.{re.escape(path.stem)}\.(\d+)\.tmp{re.escape(path.suffix)}")
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(path.parent):
            match = pattern.fullmatch(name)
            if match and not is_running(int(match[1])):
                (path.parent / name).unlink(missing_ok=True)


def is_running(pid: int) -> bool:
    """Whether a process of this number exists; another's may have taken it meanwhile."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _flush(path: Path) -> None:
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, default=str) + "\n")


def write_tensors(path: Path, tensors: dict[str, Any]) -> None:
    """Write named numpy arrays as safetensors, whole or not at all, with a hash of them."""
    import numpy as np
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    with atomic_file(path) as temporary:
        save_file(arrays, temporary, {"sha256": _hash_arrays(arrays)})


def read_tensors(path: Path) -> dict[str, Any] | None:
    """What `write_tensors` wrote; None: it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            sealed = (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError, ValueError, TypeError):
        return None
    return arrays if sealed == _hash_arrays(arrays) else None


def _hash_arrays(arrays: dict[str, Any]) -> str:
    rows = [
        [name, str(array.dtype), list(array.shape), hashlib.sha256(array).hexdigest()]
        for name, array in sorted(arrays.items())
    ]
    return hash_value(rows)


def disk_problem(error: OSError, folder: Path) -> DiskError | None:
    """The line for an error that the user can do something about; None for any other.

    Args:
        folder: named where the error names no file.
    """
    where = f"{error.filename or folder} ({error.strerror})"
    if error.errno in _FULL:
        fix = "Free some and run again: finished parts are kept."
        return DiskError("the disk must have room for the output", where, fix)
    if error.errno in (*_CLOSED, *_NO_FOLDER):
        return DiskError("the out folder must be writable", where, "Pass another --out.")
    return None


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into an `InputError`, from safetensors' writer too.

    Raises:
        InputError: no space left, read-only, no permission, a file in a folder's place.
    """
    try:
        yield
    except OSError as error:
        problem = disk_problem(error, path)
        if problem is None:
            raise
        raise problem from None
    except Exception as error:
        # safetensors keeps the system's error number in its text only.
        number = re.search(r"os error (\d+)", str(error))
        if type(error).__name__ != "SafetensorError" or number is None:
            raise
        code = int(number[1])
        problem = disk_problem(OSError(code, os.strerror(code), str(path)), path)
        if problem is None:
            raise
        raise problem from None


def resolved(path: Path) -> Path:
    """The path with its links followed.

    Raises:
        InputError: links that lead back to themselves.
    """
    try:
        return path.expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise InputError("links must lead somewhere", f"{path} ({error})") from None


@contextlib.contextmanager
def making(folder: Path) -> Iterator[None]:
    """As `writing`, while a folder is made: some places, as `/proc`, have room for none."""
    try:
        with writing(folder):
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
