from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from edgekd import entries
from edgekd.errors import InputError
from edgekd.export import registry
from edgekd.export.onnx.exporter import OnnxExporter
from edgekd.export.protocol import Exporter
from edgekd.runtime.declared import Runtime


def _install(monkeypatch: pytest.MonkeyPatch, *values: tuple[str, str]) -> None:
    found = [EntryPoint(name, value, registry.GROUP) for name, value in values]
    monkeypatch.setattr(entries, "entry_points", lambda group: found)


def test_onnx_is_registered_and_keeps_the_protocol():
    assert "onnx" in registry.exporters()
    exporter = registry.get_exporter("onnx")
    assert isinstance(exporter, OnnxExporter)
    assert isinstance(exporter, Exporter)


def test_unknown_runtime_lists_the_known():
    with pytest.raises(InputError, match=r"one of .*onnx.*'tensorrt'"):
        registry.get_exporter("tensorrt")


def test_one_name_from_two_packages_is_refused(monkeypatch):
    _install(monkeypatch, ("onnx", "one.module:A"), ("onnx", "other.module:B"))
    with pytest.raises(InputError, match=r"one\.module:A and from other\.module:B"):
        registry.exporters()


def test_one_package_listed_twice_is_one(monkeypatch):
    """Its metadata can be on the path twice, in a source tree and installed."""
    _install(monkeypatch, ("onnx", "one.module:A"), ("onnx", "one.module:A"))
    assert list(registry.exporters()) == ["onnx"]


def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> None:
    (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_missing_extra_names_its_install_command(tmp_path, monkeypatch):
    _package(tmp_path, monkeypatch, "runtime_a", "import not_installed_runtime\n")
    _install(monkeypatch, ("tpu", "runtime_a:Exporter"))
    declared = Runtime("tpu", ("not-installed-runtime",), "edgekd-tpu[run]")
    monkeypatch.setattr(registry, "runtimes", lambda: {"tpu": declared})
    with pytest.raises(InputError, match=r"pip install 'edgekd-tpu\[run\]'") as failure:
        registry.get_exporter("tpu")
    assert "not_installed_runtime" in str(failure.value)


def test_module_missing_from_the_package_itself_is_a_defect(tmp_path, monkeypatch):
    _install(monkeypatch, ("onnx", "edgekd.export.nowhere:Exporter"))
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        registry.get_exporter("onnx")


def test_something_else_than_an_exporter_is_refused(tmp_path, monkeypatch):
    _package(tmp_path, monkeypatch, "runtime_b", "class Half:\n    name = 'half'\n")
    _install(monkeypatch, ("half", "runtime_b:Half"))
    with pytest.raises(InputError, match="Exporter protocol"):
        registry.get_exporter("half")
