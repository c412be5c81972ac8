from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.errors import InputError
from edgekd.export.protocol import Generation
from edgekd.export.stage import chosen_precisions, export_all
from edgekd.progress import Silent
from edgekd.recipe import ExportSection
from edgekd.target import Target, load_target

GENERATION = Generation(steps=2)


class Lines(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)


def _target(**changes: object) -> Target:
    return load_target("onnx").model_copy(update=changes)


def test_precisions_follow_the_targets_order() -> None:
    target = _target(precisions=["int8", "fp32"])
    assert chosen_precisions(target, ExportSection()) == ["int8", "fp32"]
    section = ExportSection(precisions=["fp32", "int8"])
    assert chosen_precisions(target, section) == ["int8", "fp32"]
    assert chosen_precisions(target, ExportSection(precisions=["fp32"])) == ["fp32"]


def test_precision_that_the_target_does_not_list_is_refused() -> None:
    with pytest.raises(InputError, match=r"fp32, int8.*int4"):
        chosen_precisions(_target(), ExportSection(precisions=["fp32", "int4"]))


def test_finished_precisions_are_kept_until_the_key_changes(
    tmp_path: Path, tiny_teacher: Path
) -> None:
    def run(key: str, *precisions: str) -> tuple[dict[str, int], list[str]]:
        progress = Lines()
        exported = export_all(
            tiny_teacher,
            _target(),
            ExportSection(precisions=list(precisions)),
            tmp_path / "export",
            ["red apple", "cat", "never used"],
            progress,
            key,
            GENERATION,
        )
        times = {
            name: (item.path / "manifest.json").stat().st_mtime_ns
            for name, item in exported.items()
        }
        return times, progress.lines

    first, _ = run("a", "fp32")
    assert list(first) == ["fp32"]
    both, _ = run("a")
    assert list(both) == ["fp32", "int8"]
    assert both["fp32"] == first["fp32"]
    again, lines = run("a")
    assert again == both
    assert lines == []  # nothing was done
    changed, _ = run("b", "fp32")
    assert changed["fp32"] != first["fp32"]
    (tmp_path / "export" / "int8" / "artifact.json").unlink()  # as if killed half-way
    repaired, _ = run("b", "fp32", "int8")
    assert repaired["fp32"] == changed["fp32"]
    assert repaired["int8"] != both["int8"]
