"""Where an ONNX model says that its weights lie, read from its file without the package `onnx`.

Only the messages that can lead to a tensor are entered (onnx.proto3); everything else is passed
over, so that a model of gigabytes costs nothing.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from edgekd.errors import InputError

_MAX_DEPTH = 64  # of messages within each other: graphs within nodes within graphs
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LOCATION = b"location"

# Message -> number of a field -> the message that it holds.
_FIELDS: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse",
    },
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}  # fmt: skip


def check_locations(path: Path) -> None:
    """All weights that a model has outside of its file are in files beside it.

    Raises:
        InputError: a location that is no plain name of such a file, or a file that is no model.
    """
    for location in locations(path):
        plain = PurePosixPath(location).name == location and "\\" not in location
        if not plain or ":" in location or not (path.parent / location).is_file():
            raise InputError(
                f"weights of `{path.name}` must lie in files beside it", repr(location[:100])
            )


def check_xml(path: Path) -> None:
    """A model of OpenVINO is XML: under this name too its `read_model` takes every format that it
    knows, ONNX with weights elsewhere among them.

    Raises:
        InputError: it begins otherwise, as no other format does.
    """
    with open(path, "rb") as stream:
        if stream.read(1) != b"<":
            raise InputError(f"`{path.name}` must be XML", "a file of another kind")


def locations(path: Path) -> set[str]:
    """Every file that the tensors of a model name.

    Raises:
        InputError: the file is no ONNX model.
    """
    if path.stat().st_size == 0:
        raise InputError(f"`{path.name}` must be an ONNX model", "an empty file")
    try:
        with (
            open(path, "rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            found = set(_walk(content, 0, len(content), "Model", 0))
    except (IndexError, ValueError) as error:
        raise InputError(f"`{path.name}` must be an ONNX model", str(error)) from None
    return {value.decode("utf-8", errors="replace") for value in found}


def _walk(content: mmap.mmap, start: int, end: int, message: str, depth: int) -> Iterator[bytes]:
    """Values of `location` in one message.

    Raises:
        ValueError: it is no such message.
    """
    if depth > _MAX_DEPTH:
        raise ValueError(f"messages more than {_MAX_DEPTH} deep")
    key: bytes | None = None
    value = b""
    for number, low, high in _fields(content, start, end):
        if message == "Entry":
            key = content[low:high] if number == 1 else key
            value = content[low:high] if number == 2 else value
        elif number in _FIELDS[message]:
            yield from _walk(content, low, high, _FIELDS[message][number], depth + 1)
    if key == _LOCATION:
        yield value


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of each field of bytes in a message."""
    while start < end:
        tag, start = _varint(content, start, end)
        if tag >= 1 << 32:  # some readers take its lower bits for another field
            raise ValueError("a field's number that is too large")
        kind = tag & 7
        if kind == _VARINT:
            _, start = _varint(content, start, end)
        elif kind == _BYTES:
            length, start = _varint(content, start, end)
            if length > end - start:
                raise ValueError("a field that is longer than its message")
            yield tag >> 3, start, start + length
            start += length
        elif kind in (_FIXED32, _FIXED64):
            start += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("a field of an unknown kind")
    if start > end:
        raise ValueError("a field that is longer than its message")


def _varint(content: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and where it ends."""
    value = 0
    for place in range(10):
        if start + place >= end:
            raise ValueError("a number that does not end")
        byte = content[start + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, start + place + 1
    raise ValueError("a number that does not end")
