"""Write PNG files with the standard library, so that a device needs no picture library.

Format: W3C, Portable Network Graphics Specification (Third Edition), sections 5, 9 and 11.3.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError


def encode_png(picture: npt.NDArray[np.uint8], texts: Mapping[str, str] | None = None) -> bytes:
    """PNG file of a picture, uint8 [H,W,3], RGB.

    Args:
        texts: textual data by keyword, both in Latin-1 (section 11.3.3.2).

    Raises:
        InputError: the array is no picture.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise InputError(
            "a picture must be uint8 [H,W,3]", f"{picture.dtype} {list(picture.shape)}"
        )
    height, width, _ = picture.shape
    # Every line begins with its filter's number; 0 is no filter.
    lines = np.zeros((height, 1 + 3 * width), np.uint8)
    lines[:, 1:] = picture.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB, not interlaced
    chunks = [(b"IHDR", header)]
    for keyword, text in (texts or {}).items():
        chunks.append((b"tEXt", keyword.encode("latin-1") + b"\0" + text.encode("latin-1")))
    chunks += [(b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write_png(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    """Write a new picture, whole or not at all.

    Raises:
        InputError: something is there already, or nothing can be written there.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(part, "xb") as stream:
            try:
                stream.write(encode_png(picture))
                stream.flush()
                _rename_new(part, path)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError("the picture must be writable", f"{path} ({error.strerror})") from None


def _rename_new(part: Path, path: Path) -> None:
    """Rename, unless something has the name; file systems without hard links cannot promise it."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        part.replace(path)
