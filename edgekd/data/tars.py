"""WebDataset tars: read any, write reproducible ones.

Neighbouring members with one name up to the first dot of their base name are
one sample; the rest of the name is the part's extension.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from edgekd.errors import InputError

# An image file or a caption is far smaller; more would only fill the memory.
MAX_PART_BYTES = 512 * 1024 * 1024
Parts = dict[str, bytes]


def iter_samples(path: Path) -> Iterator[tuple[str, Parts]]:
    """Stream samples as key and parts by lower-case extension; nothing is extracted to disk.

    Raises:
        InputError: the file is no tar, or ends early.
    """
    try:
        with tarfile.open(path, "r|*") as archive:
            yield from _group(archive)
    except (tarfile.TarError, EOFError, OSError) as error:
        problem = str(error) or type(error).__name__
        raise InputError(f"`{path}` must be a whole tar file", problem) from None


def _group(archive: tarfile.TarFile) -> Iterator[tuple[str, Parts]]:
    key, parts = "", Parts()
    for member in archive:
        if member.isfile():
            folder, _, name = member.name.rpartition("/")
            stem, _, extension = name.partition(".")
            member_key = f"{folder}/{stem}" if folder else stem
            if member_key != key and parts:
                yield key, parts
                parts = {}
            key = member_key
            parts[extension.lower()] = _read(archive, member)
        archive.members = []  # type: ignore[attr-defined]  # tarfile keeps every member otherwise
    if parts:
        yield key, parts


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    if stream is None or member.size > MAX_PART_BYTES:
        return b""
    content = stream.read()
    if len(content) != member.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


class ShardWriter:
    """One tar shard, under a temporary name until `close`; equal samples give equal bytes."""

    def __init__(self, path: Path) -> None:
        from webdataset import TarWriter

        self.path = path
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._stream = open(self._temporary, "wb")  # noqa: SIM115 (closed by close or discard)
        self._writer = TarWriter(
            self._stream, user="edgekd", group="edgekd", mtime=0, encoder=False
        )
        self.samples = 0

    def write(self, key: str, parts: Parts) -> None:
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
