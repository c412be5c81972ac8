from types import SimpleNamespace
from typing import Any

import pytest

from edgekd.export import large, parity
from edgekd.export.large import Turns, is_large
from edgekd.export.onnx import exporter as onnx
from edgekd.export.onnx.exporter import OnnxExporter
from edgekd.export.onnx.pipeline import session_options

PREPACKING = "session.disable_prepacking"


def test_a_part_is_large_by_the_size_of_all_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr(large, "LARGE_PART_BYTES", 100)
    (tmp_path / "inner").mkdir()
    (tmp_path / "model.onnx").write_bytes(bytes(60))
    assert not is_large(tmp_path)
    (tmp_path / "inner" / "weights").write_bytes(bytes(60))
    assert is_large(tmp_path)


def test_only_one_part_is_open_and_it_stays_open_while_it_works():
    events: list[str] = []
    turns = Turns(
        lambda part: events.append(f"open {part.name}"),
        lambda part: events.append(f"close {part.name}"),
    )
    text, unet = (SimpleNamespace(name=name, forward=events.append) for name in ("text", "unet"))
    turns.add(text)
    turns.add(unet)
    assert events == ["close text", "close unet"]
    events.clear()
    for part, call in ((text, "t"), (unet, "u1"), (unet, "u2"), (text, "t")):
        part.forward(call)
    assert events == [
        *("open text", "t"),
        *("close text", "open unet", "u1", "u2"),
        *("close unet", "open text", "t"),
    ]


def test_thrifty_session_differs_from_the_deployed_one_in_memory_alone():
    deployed, thrifty = (session_options(2, thrifty=value) for value in (False, True))
    assert thrifty.get_session_config_entry(PREPACKING) == "1"
    assert (deployed.enable_cpu_mem_arena, thrifty.enable_cpu_mem_arena) == (True, False)
    for name in ("graph_optimization_level", "intra_op_num_threads", "enable_mem_pattern"):
        assert getattr(deployed, name) == getattr(thrifty, name)


@pytest.mark.parametrize("is_large_part", [False, True])
def test_parity_opens_large_parts_thriftily(is_large_part, tmp_path, monkeypatch):
    monkeypatch.setattr(large, "LARGE_PART_BYTES", 5 if is_large_part else 500)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.onnx").write_bytes(bytes(100))
    opened: list[bool] = []
    monkeypatch.setattr(onnx, "OnnxRunner", lambda *_, thrifty: opened.append(thrifty))
    OnnxExporter().open_component(tmp_path, "unet")
    assert opened == [is_large_part]


@pytest.mark.parametrize("is_large_export", [False, True])
def test_pictures_of_a_large_export_are_drawn_part_by_part(is_large_export, tmp_path, monkeypatch):
    monkeypatch.setattr(large, "LARGE_PART_BYTES", 5 if is_large_export else 500)
    (tmp_path / "model.onnx").write_bytes(bytes(100))
    exporter: Any = OnnxExporter()
    for name in ("load", "load_in_turns"):
        monkeypatch.setattr(OnnxExporter, name, lambda *_, name=name: name)
    wanted = "load_in_turns" if is_large_export else "load"
    assert parity.load_for_parity(exporter, tmp_path) == wanted
