"""Exports that several tests draw with."""

from collections.abc import Callable
from pathlib import Path

import pytest

Export = Callable[[Path], Path]  # pipeline folder -> its export


@pytest.fixture(scope="session")
def export_to(tmp_path_factory) -> Callable[[Path, str, str], Path]:
    """Pipeline folder, runtime, precision -> what `edgekd export` makes, two steps of parity."""
    made: dict[tuple[Path, str, str], Path] = {}

    def export(source: Path, runtime: str, precision: str) -> Path:
        from edgekd.export.protocol import ExportOptions, Generation
        from edgekd.export.registry import get_exporter
        from edgekd.progress import Silent

        asked = (source, runtime, precision)
        if asked not in made:
            out = tmp_path_factory.mktemp("exports") / "export"
            options = ExportOptions(("red apple",), Generation(steps=2, guidance_scale=4.0))
            get_exporter(runtime).export(source, out, precision, Silent(), options)
            made[asked] = out
        return made[asked]

    return export


@pytest.fixture(scope="session")
def export_onnx(export_to) -> Export:
    """For onnxruntime in float32."""
    return lambda source: export_to(source, "onnx", "fp32")


@pytest.fixture(scope="session")
def starter_export(starter_teacher, export_onnx) -> Path:
    """The starter teacher for onnxruntime, float32."""
    return export_onnx(starter_teacher)
