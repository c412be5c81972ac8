import sys
from pathlib import Path

import pytest

from edgekd.doctor import examine
from edgekd.errors import InputError
from edgekd.measure.environment import environment
from edgekd.runtime.declared import Runtime
from edgekd.runtime.registry import GROUP, runtimes


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, declared: str) -> None:
    """A package from elsewhere that brings a runtime, as pip lays it out."""
    (folder / "elsewhere.py").write_text(declared, encoding="utf-8")
    info = folder / "elsewhere-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\ntpu = elsewhere:TPU\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "elsewhere", raising=False)


IMPORT = "from edgekd.runtime.declared import Runtime\n"


def test_a_runtime_from_outside_is_examined_and_its_version_is_in_reports(tmp_path, monkeypatch):
    packages = '("elsewhere", "no-such-package")'
    install(tmp_path, monkeypatch, f"{IMPORT}TPU = Runtime('tpu', {packages}, 'elsewhere[run]')\n")
    (row,) = (row for row in examine() if row["name"] == "tpu")
    assert row["detail"] == "no no-such-package; run: pip install 'elsewhere[run]'"
    assert not row["ok"]
    assert environment()["versions"]["elsewhere"] == "2.5"


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (f"{IMPORT}TPU = Runtime('onnx', ('elsewhere',))\n", "unique, but got `onnx` twice"),
        ("TPU = 'no runtime'\n", "elsewhere:TPU` must be a Runtime, but got str"),
    ],
)
def test_what_cannot_be_a_runtime_is_refused(declared, said, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, declared)
    with pytest.raises(InputError, match=said):
        runtimes()


def test_packages_of_every_runtime_are_in_the_environment():
    versions = environment()["versions"]
    assert versions.keys() >= {"onnxruntime", "openvino", "coremltools", "torch"}
    rows = {row["name"]: row for row in examine()}
    assert rows["coreml"]["ok"]
    assert versions["coremltools"] in rows["coreml"]["detail"]


def test_a_runtime_of_another_platform_does_not_execute_here():
    assert not Runtime("other", (), platform="none").executes_here()
    assert Runtime("any", ()).executes_here()
