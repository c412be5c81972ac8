"""A step in a child of its own passes its limit."""

import pytest

from edgekd.errors import GateError, InputError
from edgekd.export import isolate
from edgekd.export.isolate import InProcess, Isolated
from edgekd.export.onnx.exporter import OnnxExporter
from edgekd.export.protocol import ExportOptions, Floor
from edgekd.export.steps import PartOrder, check
from edgekd.measure.memory import resident_bytes
from edgekd.progress import Silent


def test_limit_that_a_step_passes_ends_it_and_leaves_nothing(
    shallow_teacher, tmp_path, monkeypatch
):
    # No child that imports torch fits beside this process in 50 MB more.
    monkeypatch.setattr(isolate, "check_limit", lambda *_: None)
    options = ExportOptions(("cat",), memory_limit_bytes=resident_bytes() + 50_000_000)
    with pytest.raises(GateError, match="--memory-limit") as error:
        OnnxExporter().export(shallow_teacher, tmp_path / "out", "fp32", Silent(), options)
    assert error.value.exit_code == 3
    assert "step `record`" in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("worker", [InProcess, Isolated])
def test_errors_for_the_user_come_back_from_both(worker, tmp_path):
    order = PartOrder(tmp_path, tmp_path / "none", tmp_path, "fp32", "unet", Floor(1, ""))
    with pytest.raises(InputError, match="none"):
        worker(OnnxExporter()).run(check, order)
