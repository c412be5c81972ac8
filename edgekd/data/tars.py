"""WebDataset tars: read any as the webdataset library reads it, write reproducible ones.

Neighbouring members with one name up to the first dot of their base name are one sample; the
rest of the name, in small letters, names the part. Names are never used as paths.
"""

from __future__ import annotations

import contextlib
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgekd.errors import InputError

# webdataset's own expressions (`base_plus_ext`, `tar_file_iterator`); a hidden member fits none.
_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
_META = re.compile(r"__[^/]*__($|/)")
_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
# tarfile reads longer names and attributes into memory whole.
MAX_HEADER_BYTES = 1024 * 1024
MAX_SHARD_SAMPLE_BYTES = 512 * 1024 * 1024


@dataclass
class Sample:
    """One sample of a tar.

    Attributes:
        parts: content by part; None where the sample would pass its size limit with it.
        unread: names of the other members that belong to it, or stand before its end.
        problem: why the sample cannot be used, else "".
    """

    key: str
    parts: dict[str, bytes | None] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    problem: str = ""
    size: int = 0


class _Member(tarfile.TarInfo):
    """A header that does not end the archive in silence when it is damaged."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        try:
            member = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if any(buf):  # else it is the end of the archive
                raise tarfile.ReadError(str(error)) from None
            raise
        if member.type in (*_HEADERS, *_LONG_NAMES) and member.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError("a header that is too long")
        return member


def iter_samples(
    path: Path,
    max_bytes: int = MAX_SHARD_SAMPLE_BYTES,
    is_read: Callable[[str], bool] = lambda part: True,
) -> Iterator[Sample]:
    """Stream samples; nothing is extracted to disk.

    Args:
        max_bytes: of what is held of one sample.
        is_read: whether a part is read; others are only named.

    Raises:
        InputError: the file is no tar, is damaged, or ends early.
    """
    try:
        with tarfile.open(path, "r|*", tarinfo=_Member) as archive:
            yield from _group(archive, max_bytes, is_read)
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError) as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"`{path}` must be a whole tar file", problem) from None


def _group(
    archive: tarfile.TarFile, max_bytes: int, is_read: Callable[[str], bool]
) -> Iterator[Sample]:
    sample = Sample("")
    for member in archive:
        match = _NAME.match(member.name) if member.isreg() else None
        if match and not _META.match(member.name):
            key, part = match[1], match[2].lower()
            if sample.key and key != sample.key:
                yield sample
                sample = Sample("")
            sample.key = key
            sample.size += tarfile.BLOCKSIZE + (member.size if is_read(part) else 0)
            if part in sample.parts:
                sample.problem = "a part twice in sample"
            elif sample.size > max_bytes:
                sample.parts[part] = None
            elif is_read(part):
                sample.parts[part] = _read(archive, member)
            else:
                sample.unread.append(member.name)
        elif not member.isdir() and not member.name.rpartition("/")[2].startswith("."):
            sample.unread.append(member.name)
        archive.members = []  # type: ignore[attr-defined]  # tarfile keeps every member otherwise
    if sample.key:
        yield sample


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    content = stream.read() if stream else b""
    if len(content) != member.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


class ShardWriter:
    """One tar shard, under a temporary name until `close`; equal samples give equal bytes."""

    def __init__(self, path: Path) -> None:
        from webdataset import TarWriter

        self.path = path
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
        self._stream = open(self._temporary, "wb")  # noqa: SIM115 (closed by close or discard)
        self._writer = TarWriter(
            self._stream, user="edgekd", group="edgekd", mtime=0, encoder=False
        )
        self.samples = 0

    def write(self, key: str, parts: dict[str, bytes]) -> None:
        """Add one sample: its parts by extension."""
        self._writer.write({"__key__": key, **parts})
        self.samples += 1

    def close(self) -> None:
        """Finish the shard and give it its name."""
        self._writer.close()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._temporary.replace(self.path)

    def discard(self) -> None:
        """Throw the unfinished shard away."""
        # Closing writes what is buffered, and the disk may be full.
        for part in (self._writer, self._stream):
            with contextlib.suppress(OSError):
                part.close()
        self._temporary.unlink(missing_ok=True)
