"""Weight files of Core ML packages.

Layout, version 2, little-endian: a 64-byte header (uint32 count, uint32
version), then blobs. A blob is a 64-byte record (uint32 sentinel 0xDEADBEEF,
uint32 type code, uint64 bytes, uint64 offset of the data, uint64 padding bits)
and, at that offset, the data. Programs name the record's offset.
"""

from __future__ import annotations

import struct
from pathlib import Path

from edgekd.errors import InputError
from edgekd.export.coreml.mil.datatypes import Array, DataType, decode_elements

VERSION = 2
SENTINEL = 0xDEADBEEF
HEADER = struct.Struct("<II56x")
RECORD = struct.Struct("<IIQQQ32x")


class BlobFile:
    """Reads stored tensors, each from disk when asked for: nothing is kept in memory.

    Raises:
        InputError: the file is missing, or is no weight file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise InputError("the package's weight file must exist", f"{path} missing")
        self.size = path.stat().st_size
        _count, version = HEADER.unpack(self._bytes(0, HEADER.size))
        if version != VERSION:
            raise InputError(
                f"weight files must be of version {VERSION}", f"{path} of version {version}"
            )

    def read(self, offset: int, data_type: DataType, count: int) -> Array:
        """The blob whose record is at `offset`, flat, of `count` elements.

        Raises:
            InputError: it is not inside the file, or not of this type and size.
        """
        data_offset, size = self.check(offset, data_type, count)
        return decode_elements(self._bytes(data_offset, size), data_type, count)

    def check(self, offset: int, data_type: DataType, count: int) -> tuple[int, int]:
        """Offset and size of a blob's data, both in bytes; raises as `read`."""
        record = self._bytes(offset, RECORD.size)
        sentinel, code, size, data_offset, _padding = RECORD.unpack(record)
        where = f"{self.path}, offset {offset}"
        if sentinel != SENTINEL:
            raise InputError(f"a blob must start at {where}", f"{sentinel:#010x}")
        if code != data_type.blob_code:
            raise InputError(
                f"the blob at {where} must have type code {data_type.blob_code} ({data_type.name})",
                f"code {code}",
            )
        needed = (count * data_type.bits + 7) // 8
        if size != needed:
            raise InputError(
                f"the blob at {where} must have {needed} bytes ({count} {data_type.name})",
                f"{size} bytes",
            )
        if data_offset + size > self.size:
            raise self._truncated(data_offset, size)
        return data_offset, size

    def _bytes(self, offset: int, size: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(min(offset, self.size))
            data = file.read(size)
        if len(data) != size:
            raise self._truncated(offset, size)
        return data

    def _truncated(self, offset: int, size: int) -> InputError:
        return InputError(
            f"{self.path} must hold bytes {offset} to {offset + size}",
            f"a file of {self.size} bytes",
            "The file is truncated or damaged: export again.",
        )
