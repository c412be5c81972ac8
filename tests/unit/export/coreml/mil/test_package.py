"""Reading packages: nothing outside of them, nothing incomplete."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.errors import GateError, InputError
from edgekd.export.coreml.mil.evaluator import PackageEvaluator

MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
WEIGHT = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def saved(save_package) -> Path:
    return save_package(lambda mb, x: mb.linear(x=x, weight=WEIGHT), (torch.zeros(1, 64),))


@pytest.fixture
def package(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy.mlpackage"))


def edit_manifest(package: Path, change: Callable[[Any], Any]) -> None:
    path = package / "Manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def edit_model(package: Path, change: Callable[[Any], None]) -> None:
    from coremltools import proto

    model = proto.Model_pb2.Model()
    model.ParseFromString((package / MODEL).read_bytes())
    change(model)
    (package / MODEL).write_bytes(model.SerializeToString())


def blob_value(model: Any) -> Any:
    function = model.mlProgram.functions["main"]
    for operation in function.block_specializations[function.opset].operations:
        value = operation.attributes["val"] if operation.type == "const" else None
        if value is not None and value.WhichOneof("value") == "blobFileValue":
            return value.blobFileValue
    raise AssertionError("the package must store a weight in its file")


def test_complete_package_opens(package):
    x = np.ones((1, 64), np.float32)
    (output,) = PackageEvaluator(package)({"x": x}).values()
    np.testing.assert_allclose(output, x @ WEIGHT.T, rtol=1e-5, atol=1e-5)


def test_not_a_package(tmp_path):
    with pytest.raises(InputError, match=r"must have a Manifest\.json"):
        PackageEvaluator(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "[" * 10**5, "{}", '{"rootModelIdentifier": "a", "itemInfoEntries": {}}', "\ud800"],
)
def test_malformed_manifest(package, content):
    (package / "Manifest.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match="must name its root model"):
        PackageEvaluator(package)


@pytest.mark.parametrize("way", ["../../model.mlmodel", "/etc/passwd", "a/../../../x", "\0"])
def test_manifest_must_stay_inside(package, way):
    (package.parent / "model.mlmodel").write_bytes((package / MODEL).read_bytes())

    def change(content):
        content["itemInfoEntries"][content["rootModelIdentifier"]]["path"] = way

    edit_manifest(package, change)
    with pytest.raises(InputError, match="paths in a package must"):
        PackageEvaluator(package)


def test_linked_model_must_stay_inside(package, tmp_path):
    outside = tmp_path / "outside.mlmodel"
    shutil.move(package / MODEL, outside)
    (package / MODEL).symlink_to(outside)
    with pytest.raises(InputError, match="paths in a package must stay inside"):
        PackageEvaluator(package)


def test_missing_model(package):
    (package / MODEL).unlink()
    with pytest.raises(InputError, match=r"model file must exist, but got .* missing"):
        PackageEvaluator(package)


def test_model_that_is_none(package):
    (package / MODEL).write_bytes(b"\xff" * 100)
    with pytest.raises(InputError, match="must be a Core ML model"):
        PackageEvaluator(package)


def test_empty_model(package):
    (package / MODEL).write_bytes(b"")
    with pytest.raises(InputError, match="must be an ML program, but got a model of type None"):
        PackageEvaluator(package)


def test_model_of_another_type(package):
    edit_model(package, lambda model: model.neuralNetwork.SetInParent())
    with pytest.raises(InputError, match=r"must be an ML program, but got .* neuralNetwork"):
        PackageEvaluator(package)


def test_more_than_one_function(package):
    def change(model):
        model.mlProgram.functions["other"].CopyFrom(model.mlProgram.functions["main"])

    edit_model(package, change)
    with pytest.raises(InputError, match="must have one function"):
        PackageEvaluator(package)


def test_unknown_operation_set(package):
    def change(model):
        model.mlProgram.functions["main"].opset = "CoreML5"

    edit_model(package, change)
    with pytest.raises(GateError, match="must be one of CoreML7, CoreML8, but got 'CoreML5'"):
        PackageEvaluator(package)


@pytest.mark.parametrize(
    "name", ["@model_path/../../../secret.bin", "@model_path//etc/passwd", "weights/weight.bin"]
)
def test_weights_must_stay_inside(package, name):
    (package.parent / "secret.bin").write_bytes((package / WEIGHTS).read_bytes())
    edit_model(package, lambda model: setattr(blob_value(model), "fileName", name))
    with pytest.raises(InputError, match=r"must (stay inside|start with)"):
        PackageEvaluator(package)


def test_missing_weights(package):
    (package / WEIGHTS).unlink()
    with pytest.raises(InputError, match="weight file must exist"):
        PackageEvaluator(package)


@pytest.mark.parametrize("size", [0, 63, 100, 128, 5000, -1])
def test_truncated_weights(package, size):
    data = (package / WEIGHTS).read_bytes()
    (package / WEIGHTS).write_bytes(data[:size])
    with pytest.raises(InputError, match=r"must hold bytes .*truncated or damaged"):
        PackageEvaluator(package)


@pytest.mark.parametrize(
    ("offset", "message"),
    [(0, "a blob must start"), (65, "a blob must start"), (2**63, "must hold bytes")],
)
def test_wrong_blob_offset(package, offset, message):
    edit_model(package, lambda model: setattr(blob_value(model), "offset", offset))
    with pytest.raises(InputError, match=message):
        PackageEvaluator(package)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (4, 9, "weight files must be of version 2"),
        (64 + 4, 1, "must have type code 2"),
        (64 + 8, 12, "must have 16384 bytes"),
        (64 + 16, 2**62, "must hold bytes"),
    ],
)
def test_damaged_weight_file(package, at, value, message):
    data = bytearray((package / WEIGHTS).read_bytes())
    width = 4 if at in (4, 68) else 8
    data[at : at + width] = value.to_bytes(width, "little")
    (package / WEIGHTS).write_bytes(data)
    with pytest.raises(InputError, match=message):
        PackageEvaluator(package)
