"""Exports that several tests draw with."""

from collections.abc import Callable
from pathlib import Path

import pytest

Export = Callable[[Path], Path]  # pipeline folder -> its export


@pytest.fixture(scope="session")
def export_onnx(export_to) -> Export:
    """For onnxruntime in float32."""
    return lambda source: export_to(source, "onnx", "fp32").path


@pytest.fixture(scope="session")
def starter_export(starter_teacher, export_onnx) -> Path:
    """The starter teacher for onnxruntime, float32."""
    return export_onnx(starter_teacher)
