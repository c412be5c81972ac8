"""A step in a child of its own passes its limit."""

import pytest

from edgekd.errors import GateError
from edgekd.export import isolate
from edgekd.export.onnx.exporter import OnnxExporter
from edgekd.export.protocol import ExportOptions
from edgekd.measure.memory import resident_bytes
from edgekd.progress import Silent


def test_limit_that_a_step_passes_ends_it_and_leaves_nothing(tiny_teacher, tmp_path, monkeypatch):
    # No child that imports torch fits beside this process in 50 MB more.
    monkeypatch.setattr(isolate, "check_limit", lambda *_: None)
    options = ExportOptions(("cat",), memory_limit_bytes=resident_bytes() + 50_000_000)
    with pytest.raises(GateError, match="--memory-limit") as error:
        OnnxExporter().export(tiny_teacher, tmp_path / "out", "fp32", Silent(), options)
    assert error.value.exit_code == 3
    assert "step `record`" in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
