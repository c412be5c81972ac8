"""Files by the hash of their content, on an agent's disk.

    blobs/<2 digits>/<digest>    whole, their hash was right when they came
    partial/<digest>.<size>      the bytes that have come so far
    work/<job>/                  copies for the job that runs

Names are hashes alone: nothing that a host says leads anywhere else. Files are copied for a job and
not linked: onnx refuses weights that have two names (CVE-2026-27489).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgekd.devices import problems
from edgekd.devices.schema import BlobState
from edgekd.errors import EdgekdError
from edgekd.serve.problems import Problem

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_BUFFER = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PARTIAL = re.compile(rf"({_DIGEST.pattern})\.([0-9]{{1,18}})")


class MissingFileError(EdgekdError):
    """A job's file has left, or is damaged, since the job was taken."""


class FullDiskError(EdgekdError):
    """The disk has no room for a job's files."""


@dataclass
class _Entry:
    """A file that is here, whole or in part.

    Attributes:
        size: of the whole.
        used: when it was last asked for or written, by the wall clock.
    """

    path: Path
    size: int
    received: int
    used: float

    @property
    def complete(self) -> bool:
        return self.path.parent.name != "partial"


class Store:
    """See the module; safe in threads."""

    def __init__(self, folder: Path, file_bytes: int, store_bytes: int) -> None:
        """Open a folder, and remove what a killed agent left of its jobs."""
        self._folder = folder
        self._file_bytes = file_bytes
        self._store_bytes = store_bytes
        self._lock = threading.Lock()
        self._pinned: dict[str, int] = {}
        shutil.rmtree(folder / "work", ignore_errors=True)
        for name in ("blobs", "partial", "work"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._entries: dict[str, _Entry] = dict(self._found())

    def _found(self) -> Iterator[tuple[str, _Entry]]:
        for path in (self._folder / "partial").iterdir():
            named, status = _PARTIAL.fullmatch(path.name), path.lstat()
            if named and stat.S_ISREG(status.st_mode) and status.st_size < int(named[2]):
                yield named[1], _Entry(path, int(named[2]), status.st_size, status.st_mtime)
            elif not path.is_dir():  # an agent ended in the midst of a check
                path.unlink()
        for path in (self._folder / "blobs").glob("*/*"):
            status = path.lstat()
            if _DIGEST.fullmatch(path.name) and stat.S_ISREG(status.st_mode):
                yield path.name, _Entry(path, status.st_size, status.st_size, status.st_mtime)

    def states(self, digests: Iterable[str]) -> list[BlobState]:
        """How much of each file is here; whoever asks will need it."""
        with self._lock:
            return [self._state(digest) for digest in digests]

    def _state(self, digest: str) -> BlobState:
        entry = self._entries.get(digest)
        if entry is None:
            return BlobState(digest=digest, received=0, complete=False)
        self._use(entry)
        return BlobState(digest=digest, received=entry.received, complete=entry.complete)

    def _use(self, entry: _Entry) -> None:
        entry.used = time.time()
        with suppress(OSError):
            os.utime(entry.path)  # for the next start

    def append(self, digest: str, size: int, offset: int, chunk: bytes) -> BlobState:
        """Take the next chunk of a file; the last one is checked with all before it.

        Raises:
            Problem: the chunk does not follow, the file is too large, or there is no room.
        """
        with self._lock:
            entry = self._entries.get(digest)
            if entry is not None and entry.complete:
                return self._state(digest)
            if entry is not None and entry.size != size and offset == 0:
                self._remove(digest)  # one of the two sizes was wrong: from the beginning
                entry = None
            self._check_chunk(entry, size, offset, chunk)
            if entry is None:
                entry = self._begin(digest, size)
            self._write(digest, entry, chunk)
            if entry.received == size:
                self._finish(digest, entry)
            return self._state(digest)

    def _check_chunk(self, entry: _Entry | None, size: int, offset: int, chunk: bytes) -> None:
        if size > self._file_bytes:
            raise problems.file_too_large(self._file_bytes)
        if entry is not None and entry.size != size:
            raise problems.wrong_size(entry.size)
        received = 0 if entry is None else entry.received
        if offset != received:
            raise problems.wrong_offset(received)
        if offset + len(chunk) > size or (size > 0 and not chunk):
            message = "a chunk must have at least one byte, and end within its file"
            raise Problem(400, message, "invalid_value")

    def _begin(self, digest: str, size: int) -> _Entry:
        self._make_room(size)
        path = self._folder / "partial" / f"{digest}.{size}"
        entry = _Entry(path, size, 0, time.time())
        with _full_disk():
            path.touch()
        self._entries[digest] = entry
        return entry

    def _make_room(self, size: int) -> None:
        """Let the least recently used files leave, whole ones and begun ones alike, but not those
        of jobs."""
        if size > self._store_bytes:
            raise problems.store_full(self._store_bytes)
        leaving = sorted(
            (digest for digest in self._entries if digest not in self._pinned),
            key=lambda digest: self._entries[digest].used,
        )
        entries = [self._entries[digest] for digest in leaving]
        if self._total() - sum(one.size for one in entries) + size > self._store_bytes:
            raise problems.store_full(self._store_bytes)
        if self._free() + sum(one.size for one in entries) < size:
            raise problems.disk_full()
        for digest in leaving:
            if self._total() + size <= self._store_bytes and self._free() >= size:
                return
            self._remove(digest)

    def _total(self) -> int:
        return sum(entry.size for entry in self._entries.values())

    def _free(self) -> int:
        """Bytes of the disk that no begun file is promised."""
        begun = (entry.size - entry.received for entry in self._entries.values())
        return shutil.disk_usage(self._folder).free - sum(begun)

    def _remove(self, digest: str) -> None:
        self._entries.pop(digest).path.unlink(missing_ok=True)

    def _write(self, digest: str, entry: _Entry, chunk: bytes) -> None:
        """All of a chunk or nothing of it."""
        try:
            with _full_disk(), open(entry.path, "r+b", buffering=0) as stream:
                stream.seek(entry.received)
                try:
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[stream.write(rest) :]
                except OSError:
                    with suppress(OSError):
                        stream.truncate(entry.received)
                    raise
        except FileNotFoundError:  # removed by someone else: from the beginning
            self._entries.pop(digest, None)
            raise problems.wrong_offset(0) from None
        entry.received += len(chunk)
        entry.used = time.time()

    def _finish(self, digest: str, entry: _Entry) -> None:
        with open(entry.path, "rb") as stream:
            found = hashlib.sha256()
            while content := stream.read(_BUFFER):
                found.update(content)
            os.fsync(stream.fileno())
        if found.hexdigest() != digest:
            self._remove(digest)
            raise problems.hash_mismatch()
        path = self._folder / "blobs" / digest[:2] / digest
        with _full_disk():
            path.parent.mkdir(exist_ok=True)
            entry.path.replace(path)
        entry.path = path

    def pin(self, digests: Iterable[str]) -> list[str]:
        """Keep a job's files until `unpin`; the digests of those that are not here, whereupon none
        is kept."""
        wanted = set(digests)
        with self._lock:
            whole = {digest for digest, entry in self._entries.items() if entry.complete}
            missing = sorted(wanted - whole)
            if not missing:
                for digest in wanted:
                    self._use(self._entries[digest])
                    self._pinned[digest] = self._pinned.get(digest, 0) + 1
        return missing

    def unpin(self, digests: Iterable[str]) -> None:
        with self._lock:
            for digest in set(digests):
                self._pinned[digest] -= 1
                if not self._pinned[digest]:
                    del self._pinned[digest]

    @contextmanager
    def folder_of(self, job: str) -> Iterator[Path]:
        """An empty folder for one job, removed afterwards."""
        folder = self._folder / "work" / job
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def check_room(self, digests: Iterable[str]) -> None:
        """Whether the disk has room for copies of so many files; one may be asked for often.

        Raises:
            FullDiskError: it has not.
        """
        with self._lock:
            sizes = (self._entries[one].size for one in digests if one in self._entries)
            needed, free = sum(sizes), self._free()
        if needed > free:
            found = f"{needed} bytes of files, {free} free"
            raise FullDiskError("the disk must have room for a job's files", found)

    def lay_out(self, files: Mapping[str, str], folder: Path) -> None:
        """Copy files to their places below a folder, checked once more on the way.

        Args:
            files: digests by path; the names were checked by `edgekd.devices.names`.

        Raises:
            MissingFileError, FullDiskError.
        """
        for path, digest in files.items():
            target = folder.joinpath(*path.split("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            self._copy(digest, target)

    def _copy(self, digest: str, target: Path) -> None:
        source = self._folder / "blobs" / digest[:2] / digest
        found = hashlib.sha256()
        try:
            with open(source, "rb") as reading, open(target, "xb") as writing:
                while content := reading.read(_BUFFER):
                    found.update(content)
                    writing.write(content)
        except FileNotFoundError:
            found = hashlib.sha256(b"none")
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise FullDiskError("the disk must have room for a job's files", "none") from None
        if found.hexdigest() != digest:
            with self._lock:
                if digest in self._entries:
                    self._remove(digest)
            raise MissingFileError("a job's files must be whole", f"a damaged one: {digest}")


@contextmanager
def _full_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise problems.disk_full() from None
