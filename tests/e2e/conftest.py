"""Exports that several end-to-end tests draw with; made once per session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Export = Callable[[Path], Path]  # pipeline folder -> its export


@pytest.fixture(scope="session")
def export_onnx(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """As `edgekd export` does for onnxruntime in float32, with two steps of parity."""
    made: dict[Path, Path] = {}

    def export(source: Path) -> Path:
        from edgekd.export.protocol import ExportOptions, Generation
        from edgekd.export.registry import get_exporter
        from edgekd.progress import Silent

        if source not in made:
            out = tmp_path_factory.mktemp("exports") / "export"
            options = ExportOptions(Generation(steps=2, guidance_scale=4.0))
            get_exporter("onnx").export(source, out, "fp32", ["red apple"], Silent(), options)
            made[source] = out
        return made[source]

    return export


@pytest.fixture(scope="session")
def starter_export(starter_teacher: Path, export_onnx: Export) -> Path:
    """The starter teacher for onnxruntime, float32."""
    return export_onnx(starter_teacher)
