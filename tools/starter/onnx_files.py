"""The starter's ONNX files, packed: a seventh smaller."""

from __future__ import annotations

import lzma
from pathlib import Path

import onnx

# fp16 weights: what follows is told by the place in the number, not by the bits of the last byte.
_HALVES = [
    {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 1, "pb": 1},
]


def write_packed(model: onnx.ModelProto, path: Path) -> None:
    """Write a model that `edgekd.metrics.features.read_model` reads; the name ends in `.xz`."""
    path.write_bytes(lzma.compress(model.SerializeToString(), filters=_HALVES))
