"""Packages under edgekd's names: fixed batches, files, names. Core ML itself runs on a Mac only."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgekd.errors import InputError
from edgekd.runtime.coreml_backend import CoreMlBackend, CoreMlPackage

UNET = {
    "inputs": {name: name for name in ("sample", "timestep", "encoder_hidden_states")},
    "outputs": {"out_sample": "noise_pred"},
}


class Doubles:
    """A U-Net's package: noise_pred = 2 sample + timestep, and it remembers its calls."""

    executed_by = "a test"
    inputs = dict.fromkeys(UNET["inputs"])
    outputs = ("noise_pred",)
    calls: list[dict[str, Any]]

    def __init__(self, package: Path) -> None:
        assert package.name == "Unet.mlpackage"
        self.calls = []

    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(inputs)
        return {"noise_pred": 2 * inputs["sample"] + inputs["timestep"][:, None, None, None]}


@pytest.fixture
def exported(tmp_path) -> Path:
    (tmp_path / "unet" / "Unet.mlpackage").mkdir(parents=True)
    (tmp_path / "unet" / "layout.json").write_text(json.dumps(UNET), encoding="utf-8")
    return tmp_path


def call(count: int) -> dict[str, Any]:
    sample = np.arange(count * 16, dtype=np.float32).reshape(count, 4, 2, 2)
    states = np.arange(count * 15, dtype=np.float32).reshape(count, 3, 5)
    timestep = np.asarray(np.float32(2.5))
    more = {"unused": np.zeros(1)}
    return {"sample": sample, "timestep": timestep, "encoder_hidden_states": states, **more}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_batch_is_run_in_pairs(exported, count):
    opened: list[Doubles] = []

    def open_package(path):
        opened.append(Doubles(path))
        return opened[-1]

    backend = CoreMlBackend(exported, open_package)
    inputs = call(count)
    for _ in range(2):
        found = backend.run("unet", inputs)
        np.testing.assert_array_equal(found["out_sample"], 2 * inputs["sample"] + 2.5)
    (package,) = opened  # once, however often it is called
    assert len(package.calls) == 2 * -(-count // 2)
    last = package.calls[-1]
    assert {name: array.shape for name, array in last.items()} == {
        "sample": (2, 4, 2, 2),
        "timestep": (2,),
        "encoder_hidden_states": (2, 5, 1, 3),
    }
    np.testing.assert_array_equal(
        last["encoder_hidden_states"][-1, :, 0], inputs["encoder_hidden_states"][-1].T
    )


def test_a_missing_package(exported):
    (exported / "unet" / "Unet.mlpackage").rmdir()
    with pytest.raises(InputError, match=r"must hold Unet\.mlpackage"):
        CoreMlBackend(exported, Doubles).run("unet", call(1))


def test_a_package_of_other_names(exported, monkeypatch):
    monkeypatch.setattr(Doubles, "outputs", ("other",))
    with pytest.raises(InputError, match="`Unet` must have the inputs and outputs"):
        CoreMlBackend(exported, Doubles).run("unet", call(1))


def test_what_core_ml_is_asked(exported, monkeypatch):
    """A stand-in with coremltools' interface: Core ML itself is not executed here."""
    package = exported / "unet" / "Unet.mlpackage"

    class MLModel:
        def __init__(self, path, compute_units):
            if not Path(path).is_dir():
                raise RuntimeError("no\nmodel")
            assert compute_units == "all"

        def get_spec(self):
            def feature(name, *shape):
                array = SimpleNamespace(shape=shape)
                return SimpleNamespace(name=name, type=SimpleNamespace(multiArrayType=array))

            description = SimpleNamespace(input=[feature("z", 1, 4)], output=[feature("image", 1)])
            return SimpleNamespace(description=description)

        def predict(self, inputs):
            return {"image": inputs["z"].astype(np.float16), "more": inputs["z"]}

    fake = SimpleNamespace(
        models=SimpleNamespace(MLModel=MLModel), ComputeUnit=SimpleNamespace(ALL="all")
    )
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setitem(sys.modules, "coremltools", fake)
    opened = CoreMlPackage(package)
    assert opened.inputs == {"z": ((1, 4), "float32")}
    found = opened({"z": np.ones((1, 4), np.float32)})
    assert list(found) == ["image"]
    assert found["image"].dtype == np.float32
    with pytest.raises(
        InputError, match=r"must be a model that Core ML can open, but got no model"
    ):
        CoreMlPackage(exported / "none")
