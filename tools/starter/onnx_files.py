"""The starter's ONNX files, packed: a tenth less of the repository."""

from __future__ import annotations

import lzma
from pathlib import Path

import onnx


def write_packed(model: onnx.ModelProto, path: Path) -> None:
    """Write a model that `edgekd.metrics.features.read_model` reads; the name ends in `.xz`."""
    path.write_bytes(lzma.compress(model.SerializeToString(), preset=9 | lzma.PRESET_EXTREME))
