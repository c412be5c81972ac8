"""The evaluator as a whole: inputs, types, memory, damaged programs."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.errors import GateError, InputError
from edgekd.export.coreml.mil import evaluator as module
from edgekd.export.coreml.mil.constants import Constants
from edgekd.export.coreml.mil.evaluator import PackageEvaluator
from edgekd.export.coreml.mil.package import open_package
from edgekd.export.coreml.mil.program import read_program

MODEL = "Data/com.apple.CoreML/model.mlmodel"
X = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4) / 7
WEIGHT = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)


def edit(package: Path, change: Callable[[Any], None]) -> Path:
    """Change the program's main block, operations by their kind."""
    from coremltools import proto

    model = proto.Model_pb2.Model()
    model.ParseFromString((package / MODEL).read_bytes())
    change(model)
    (package / MODEL).write_bytes(model.SerializeToString())
    return package


def block(model: Any) -> Any:
    function = model.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def find(model: Any, kind: str) -> Any:
    return next(operation for operation in block(model).operations if operation.type == kind)


def moved(save_package: Callable[..., Path]) -> Path:
    """A square transpose, so that another order keeps the shape."""
    return save_package(
        lambda mb, x: mb.add(x=mb.transpose(x=x, perm=[0, 2, 1]), y=1.0), (torch.zeros(2, 3, 3),)
    )


def test_inputs_outputs_and_who_executes(save_package):
    evaluator = PackageEvaluator(
        save_package(
            lambda mb, x, y: (mb.relu(x=x), mb.cast(x=y, dtype="fp32")),
            (X, torch.zeros(5, dtype=torch.int32)),
        )
    )
    assert evaluator.inputs == {"x": ((2, 3, 4), "float32"), "y": ((5,), "int32")}
    assert len(evaluator.outputs) == 2
    assert evaluator.executed_by == "evaluated from the package, not executed by Core ML"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"inputs must be \['x'\], but got \[\]"),
        ({"x": X.numpy(), "z": X.numpy()}, r"inputs must be \['x'\]"),
        ({"x": X.numpy()[:1]}, r"must be float32 of shape \(2, 3, 4\)"),
        ({"x": X.double().numpy()}, "but got float64"),
    ],
)
def test_wrong_inputs_are_refused(save_package, inputs, message):
    evaluator = PackageEvaluator(save_package(lambda mb, x: mb.relu(x=x), (X,)))
    with pytest.raises(InputError, match=message):
        evaluator(inputs)


def test_fp16_outputs_overflow_to_infinity(save_package):
    package = save_package(lambda mb, x: mb.mul(x=x, y=np.float16(300)), (X.half() * 100,))
    evaluator = PackageEvaluator(package)
    (output,) = evaluator({"x": X.half().numpy() * np.float16(100)}).values()
    assert output.dtype == np.float16
    assert np.isinf(output[1, 2, 3])
    assert output[0, 0, 1] == np.float16(np.float32((X.half() * 100)[0, 0, 1]) * 300)


def test_two_calls_give_the_same_and_leave_inputs_alone(save_package):
    evaluator = PackageEvaluator(
        save_package(lambda mb, x: mb.cumsum(x=mb.identity(x=x), exclusive=True), (X,))
    )
    given = X.numpy().copy()
    first, second = evaluator({"x": given}), evaluator({"x": given})
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert np.array_equal(given, X.numpy())


def test_intermediates_are_released_after_their_last_use(save_package, monkeypatch):
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0
    original = PackageEvaluator._run

    def watched(self, *arguments):
        nonlocal most
        result = original(self, *arguments)
        alive.extend(weakref.ref(tensor) for tensor in result.values())
        most = max(most, sum(reference() is not None for reference in alive))
        return result

    def chain(mb, x):
        for _ in range(20):
            x = mb.sin(x=x)
        return x

    monkeypatch.setattr(module.PackageEvaluator, "_run", watched)
    PackageEvaluator(save_package(chain, (X,)))({"x": X.numpy()})
    assert len(alive) == 20
    # An operation's argument and its result.
    assert most == 2


@pytest.mark.parametrize(("keep_bytes", "kept"), [(0, 0), (16384, 1), (1 << 20, 2)])
def test_decoded_constants_are_kept_up_to_the_limit(save_package, keep_bytes, kept):
    package = save_package(
        lambda mb, x: mb.linear(x=mb.linear(x=x, weight=WEIGHT), weight=WEIGHT + 1),
        (torch.zeros(1, 64),),
    )
    opened = open_package(package)
    constants = Constants(opened, read_program(opened), keep_bytes)
    names = [name for name, item in constants._stored.items() if item.type.shape == (64, 64)]
    same = sum(constants.value(name) is constants.value(name) for name in names)
    assert (len(names), same) == (2, kept)


def test_swapped_permutation_changes_the_output(save_package):
    package = moved(save_package)
    x = np.arange(18, dtype=np.float32).reshape(2, 3, 3)
    (before,) = PackageEvaluator(package)({"x": x}).values()

    def swap(model):
        name = find(model, "transpose").inputs["perm"].arguments[0].name
        constant = next(item for item in block(model).operations if item.outputs[0].name == name)
        constant.attributes["val"].immediateValue.tensor.ints.values[:] = [0, 1, 2]

    (after,) = PackageEvaluator(edit(package, swap))({"x": x}).values()
    assert not np.array_equal(before, after)
    assert np.array_equal(after, x + 1)


def test_result_of_another_shape_is_refused(save_package):
    package = save_package(lambda mb, x: mb.transpose(x=x, perm=[0, 2, 1]), (X,))

    def swap(model):
        name = find(model, "transpose").inputs["perm"].arguments[0].name
        constant = next(item for item in block(model).operations if item.outputs[0].name == name)
        constant.attributes["val"].immediateValue.tensor.ints.values[:] = [0, 1, 2]

    evaluator = PackageEvaluator(edit(package, swap))
    with pytest.raises(GateError, match=r"operation transpose .* must give fp32 \[2, 4, 3\]"):
        evaluator({"x": X.numpy()})


def unknown_parameter(model: Any) -> None:
    operation = find(model, "add")
    operation.inputs["speed"].CopyFrom(operation.inputs["y"])


def missing_parameter(model: Any) -> None:
    del find(model, "add").inputs["y"]


def undefined_value(model: Any) -> None:
    find(model, "add").inputs["y"].arguments[0].name = "nowhere"


def unknown_kind(model: Any) -> None:
    find(model, "add").type = "teleport"


def unknown_type(model: Any) -> None:
    find(model, "add").outputs[0].type.tensorType.dataType = 13


def defined_twice(model: Any) -> None:
    find(model, "add").outputs[0].name = find(model, "transpose").outputs[0].name


def another_shape_described(model: Any) -> None:
    model.description.input[0].type.multiArrayType.shape[0] = 5


def another_name_described(model: Any) -> None:
    model.description.output[0].name = "picture"


def an_image_described(model: Any) -> None:
    model.description.input[0].type.imageType.width = 8


def a_flexible_input(model: Any) -> None:
    type_ = model.mlProgram.functions["main"].inputs[0].type.tensorType
    type_.dimensions[0].unknown.variadic = False


def constant_of_another_count(model: Any) -> None:
    name = find(model, "transpose").inputs["perm"].arguments[0].name
    constant = next(item for item in block(model).operations if item.outputs[0].name == name)
    constant.attributes["val"].immediateValue.tensor.ints.values.append(3)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (unknown_parameter, GateError, r"operation add .*, parameters \['speed'\]"),
        (missing_parameter, InputError, r"operation add .* required parameters.*none of \['y'\]"),
        (undefined_value, InputError, r"must use values defined before it, but got \['nowhere'\]"),
        (unknown_kind, GateError, "known to the evaluator, but got operation teleport"),
        (unknown_type, GateError, "element type of .* must be known .*BFLOAT16"),
        (defined_twice, InputError, "a value must be defined once"),
        (another_shape_described, InputError, r"`x` must be described as fp32 \[2, 3, 3\]"),
        (another_name_described, InputError, r"the described outputs must be .*picture"),
        (an_image_described, InputError, "inputs must be arrays, but got `x` of type imageType"),
        (a_flexible_input, InputError, "must be fixed"),
        (constant_of_another_count, InputError, "must have 3 elements, but got 4"),
    ],
)
def test_damaged_program_is_refused(save_package, damage, error, message):
    package = edit(moved(save_package), damage)
    with pytest.raises(error, match=message):
        PackageEvaluator(package)
