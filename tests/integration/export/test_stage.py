"""Finished precisions of a run are kept."""

from pathlib import Path
from typing import Any

import pytest

from edgekd.artifacts import ExportedPipeline
from edgekd.errors import GateError
from edgekd.export import stage
from edgekd.export.protocol import ExportOptions, Generation
from edgekd.export.stage import ExportPlan, export_all, export_each
from edgekd.file_record import finish
from edgekd.folders import atomic_folder
from edgekd.progress import Silent
from edgekd.recipe import ExportSection
from edgekd.runtime.declared import Runtime
from edgekd.target import Target, load_target

GENERATION = Generation(steps=2)


class FakeExporter:
    """Writes empty exports and remembers what it was asked for."""

    name = "fake"
    precisions = ("fp32", "int8")
    runtime = Runtime("fake", ())
    dynamic_shapes = True

    def __init__(self) -> None:
        self.calls: list[tuple[str, ExportOptions]] = []

    def facts(self) -> dict[str, Any]:
        return {}

    def export(
        self, pipeline_path: Path, out: Path, precision: str, progress: Any, options: ExportOptions
    ) -> ExportedPipeline:
        self.calls.append((precision, options))
        assert options.key is not None
        with atomic_folder(out) as folder:
            finish(folder, options.key)
        return ExportedPipeline(out, options.key, self.name, precision)


def _target(**changes: object) -> Target:
    return load_target("onnx").model_copy(update=changes)


def test_finished_precisions_are_kept_until_the_key_changes(tmp_path, tiny_teacher, monkeypatch):
    exporter = FakeExporter()
    monkeypatch.setattr(stage, "get_exporter", lambda name: exporter)
    prompts = ["red apple", "cat", "never used"]

    def run(key, *precisions):
        """What had to be exported."""
        exporter.calls.clear()
        section = ExportSection(precisions=list(precisions))
        plan = ExportPlan(_target(), section, prompts, GENERATION)
        exported = export_all(tiny_teacher, plan, tmp_path, key, Silent())
        assert list(exported) == list(precisions or ("fp32", "int8"))
        assert {item.path.parent for item in exported.values()} == {tmp_path}
        return [precision for precision, _ in exporter.calls]

    assert run("a", "fp32") == ["fp32"]
    _, options = exporter.calls[0]
    assert options.prompts == ("red apple", "cat")
    assert options.trajectory.session.prompts == ("red apple", "cat")
    assert options.schedulers == tuple(_target().schedulers)
    assert options.base is None
    assert run("a") == ["int8"]
    assert exporter.calls[0][1].base == tmp_path / "fp32"
    assert run("a") == []
    (tmp_path / "int8" / "artifact.json").unlink()  # as if killed half-way
    assert run("a") == ["int8"]
    assert run("b") == ["fp32", "int8"]
    trajectories = [options.trajectory for _, options in exporter.calls]
    assert trajectories[0] is trajectories[1]  # recorded once
    exporter.runtime = Runtime("fake", ("numpy",))  # its version is part of the key
    assert run("b") == ["fp32", "int8"]


def test_a_damaged_export_is_made_again_and_the_old_one_set_aside(tmp_path, shallow_teacher):
    target = _target(precisions=["fp32"])
    plan = ExportPlan(target, ExportSection(parity_prompts=1), ["red apple"], GENERATION)
    for harm in (None, "unet/model.onnx", "artifact.json"):
        if harm:
            (tmp_path / "fp32" / harm).write_bytes(b"cut")
        exported = export_all(shallow_teacher, plan, tmp_path, "key", Silent())
        assert (exported["fp32"].path / "unet" / "model.onnx").stat().st_size > 1000
    names = ["fp32", "fp32.set-aside-1", "fp32.set-aside-2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_a_failed_precision_stops_no_other(tmp_path, tiny_teacher, monkeypatch):
    class Failing(FakeExporter):
        def export(self, pipeline_path, out, precision, progress, options):
            if precision == "fp32":
                raise GateError("parity must hold", "3 dB")
            return super().export(pipeline_path, out, precision, progress, options)

    exporter = Failing()
    monkeypatch.setattr(stage, "get_exporter", lambda name: exporter)
    monkeypatch.setattr(stage, "record_trajectory", lambda *_: object())
    plan = ExportPlan(_target(), ExportSection(), ["red apple"], GENERATION)
    asked = (tiny_teacher, plan, tmp_path, "key", Silent())
    made = dict(export_each(*asked))
    assert "3 dB" in str(made["fp32"])
    assert made["int8"].path == tmp_path / "int8"
    assert exporter.calls[0][1].base is None
    with pytest.raises(GateError, match="3 dB"):
        export_all(*asked)
