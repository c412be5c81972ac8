import pytest

from edgekd.doctor import examine
from edgekd.errors import InputError
from edgekd.measure.environment import environment
from edgekd.runtime.declared import Runtime
from edgekd.runtime.registry import GROUP, runtimes

IMPORT = "from edgekd.runtime.declared import Runtime\n"


@pytest.fixture(autouse=True)
def _no_node(monkeypatch) -> None:
    """Asking Node for its version starts a process."""
    monkeypatch.setattr("edgekd.doctor.node_version", lambda: None)


def test_a_runtime_from_outside_is_examined_and_its_version_is_in_reports(install):
    packages = '("outside_tpu", "no-such-package")'
    install(GROUP, "tpu", f"{IMPORT}VALUE = Runtime('tpu', {packages}, 'elsewhere[run]')\n")
    (row,) = (row for row in examine() if row["name"] == "tpu")
    assert row["detail"] == "no no-such-package; run: pip install 'elsewhere[run]'"
    assert not row["ok"]
    assert environment()["versions"]["outside_tpu"] == "2.5"


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (f"{IMPORT}VALUE = Runtime('onnx', ('elsewhere',))\n", "unique, but got `onnx` twice"),
        ("VALUE = 'no runtime'\n", "outside_tpu:VALUE` must be a Runtime, but got str"),
    ],
)
def test_what_cannot_be_a_runtime_is_refused(declared, said, install):
    install(GROUP, "tpu", declared)
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


@pytest.mark.parametrize(
    ("version", "ok", "said"),
    [
        ("20.19.0", True, "20.19.0, for"),
        ("18.1.0", False, "18.1.0; Node.js 22.12"),
        (None, False, "no"),
    ],
)
def test_node_for_bundles_is_examined(monkeypatch, version, ok, said):
    monkeypatch.setattr("edgekd.doctor.node_version", lambda: version)
    (row,) = (row for row in examine() if row["name"] == "node")
    assert row["ok"] is ok
    assert row["detail"].startswith(said)
    assert "edgekd bundle --for web" in row["detail"]
