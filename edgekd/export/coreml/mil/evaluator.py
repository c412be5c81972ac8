"""Evaluates a saved Core ML package.

What is checked: the program's graph, and the weights as they are stored,
compressed or not. What is not: fp16 arithmetic (it is float32 here, but for
casts to fp16, which round) and Apple's runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgekd.errors import EdgekdError, GateError, InputError
from edgekd.export.coreml.mil import (
    ops_elementwise,
    ops_image,
    ops_indexing,
    ops_linear,
    ops_quantization,
    ops_reduction,
    ops_shape,
)
from edgekd.export.coreml.mil.constants import Constants
from edgekd.export.coreml.mil.datatypes import TensorType, Value, to_tensor
from edgekd.export.coreml.mil.package import Package, open_package
from edgekd.export.coreml.mil.program import Operation, Program, read_program
from edgekd.export.coreml.mil.registry import Function, OperatorArguments, find_function

Array = npt.NDArray[Any]

# Imported for what they register.
FAMILIES = (
    ops_elementwise,
    ops_image,
    ops_indexing,
    ops_linear,
    ops_quantization,
    ops_reduction,
    ops_shape,
)
EXECUTED_BY = "evaluated from the package, not executed by Core ML"


class PackageEvaluator:
    """A package as a function of arrays.

    Weights are read when an operation needs them, and kept decoded up to a limit (see
    `constants`); other values are released after their last use.

    Attributes:
        inputs: name -> (shape, numpy type's name).
        outputs: names, in the program's order.
        executed_by: what computed the outputs, for reports.

    Args:
        package: an .mlpackage folder.

    Raises:
        InputError: the folder is no complete package of a single ML program of fixed shapes.
        GateError: it uses something that the evaluator does not know.
    """

    executed_by = EXECUTED_BY

    def __init__(self, package: Path) -> None:
        opened = open_package(package)
        program = read_program(opened)
        self.inputs: dict[str, tuple[tuple[int, ...], str]] = {
            name: (declared.fixed_shape, declared.data_type.numpy)
            for name, declared in program.inputs.items()
        }
        self._constants = Constants(opened, program)
        self._constants.check()
        self._steps: list[tuple[Operation, Function]] = [
            (operation, find_function(operation))
            for operation in program.operations
            if not operation.is_constant
        ]
        self._release = _last_uses([operation for operation, _ in self._steps], program.outputs)
        self._output_types = _output_types(program)
        _check_description(opened, program)
        self.outputs: tuple[str, ...] = program.outputs

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Evaluate.

        Args:
            inputs: all inputs, of exactly the shapes and types of `inputs`.

        Returns:
            Output name -> array, of the program's type: an fp16 output is rounded to it.

        Raises:
            InputError: an input's name, shape or type is wrong.
            GateError: an operation fails, or gives another type than the program declares.
        """
        self._check_inputs(inputs)
        with torch.inference_mode():
            values: dict[str, Value] = {name: to_tensor(inputs[name]) for name in self.inputs}
            for index, (operation, function) in enumerate(self._steps):
                values.update(self._run(operation, function, values))
                for name in self._release.get(index, ()):
                    values.pop(name, None)
            return {name: self._result(name, values) for name in self.outputs}

    def _run(
        self, operation: Operation, function: Function, values: dict[str, Value]
    ) -> dict[str, Value]:
        def fetch(name: str) -> Value:
            return values[name] if name in values else self._constants.value(name)

        try:
            result = function(OperatorArguments(operation, fetch))
        except EdgekdError:
            raise
        # What torch raises where sizes do not fit together.
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            message = " ".join(str(error).split())[:200]
            raise GateError(f"{operation} must evaluate", message) from error
        results = result if isinstance(result, tuple) else (result,)
        found = [f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in results]
        declared = [output.type for output in operation.outputs]
        if len(results) != len(declared) or not all(
            kind.accepts(tensor) for kind, tensor in zip(declared, results, strict=True)
        ):
            wanted = ", ".join(map(str, declared))
            raise GateError(f"{operation} must give {wanted}", ", ".join(found))
        names = [output.name for output in operation.outputs]
        return dict(zip(names, results, strict=True))

    def _result(self, name: str, values: dict[str, Value]) -> Array:
        value = values[name] if name in values else self._constants.value(name)
        if not isinstance(value, Tensor):
            raise GateError(f"output `{name}` must be a tensor", "a string")
        # Beyond fp16's range it becomes infinite; it must not warn.
        with np.errstate(over="ignore"):
            array: Array = value.numpy().astype(self._output_types[name].data_type.numpy)
        return array

    def _check_inputs(self, inputs: Mapping[str, Array]) -> None:
        if set(inputs) != set(self.inputs):
            raise InputError(
                f"the package's inputs must be {sorted(self.inputs)}", str(sorted(inputs))
            )
        for name, (shape, dtype) in self.inputs.items():
            array = inputs[name]
            if array.shape != shape or array.dtype != dtype:
                raise InputError(
                    f"input `{name}` must be {dtype} of shape {shape}",
                    f"{array.dtype} of shape {array.shape}",
                )


def _last_uses(operations: list[Operation], outputs: tuple[str, ...]) -> dict[int, list[str]]:
    """Index of an operation -> values that nothing needs after it."""
    last: dict[str, int] = {}
    for index, operation in enumerate(operations):
        for output in operation.outputs:
            last[output.name] = index
        for names in operation.inputs.values():
            last.update(dict.fromkeys(names, index))
    released: dict[int, list[str]] = {}
    for name, index in last.items():
        if name not in outputs:
            released.setdefault(index, []).append(name)
    return released


def _output_types(program: Program) -> dict[str, TensorType]:
    known = dict(program.inputs)
    known.update((name, constant.type) for name, constant in program.stored.items())
    for operation in program.operations:
        known.update((output.name, output.type) for output in operation.outputs)
    return {name: known[name] for name in program.outputs}


def _check_description(package: Package, program: Program) -> None:
    """What clients are told must be what the program has.

    Raises:
        InputError: other names, shapes or element types, or inputs that are not arrays.
    """
    for kind, features, types in (
        ("inputs", package.description.input, program.inputs),
        ("outputs", package.description.output, _output_types(program)),
    ):
        names = [feature.name for feature in features]
        if sorted(names) != sorted(types):
            raise InputError(f"the described {kind} must be {sorted(types)}", str(sorted(names)))
        for feature in features:
            if feature.type.WhichOneof("Type") != "multiArrayType":
                found = feature.type.WhichOneof("Type")
                raise InputError(f"{kind} must be arrays", f"`{feature.name}` of type {found}")
            _check_feature(feature, types[feature.name])


def _check_feature(feature: Any, declared: TensorType) -> None:
    array = feature.type.multiArrayType
    described = array.ArrayDataType.Name(array.dataType).lower()
    # Outputs may be described without a shape.
    same_shape = not array.shape or tuple(array.shape) == declared.shape
    if described != declared.data_type.numpy or not same_shape:
        raise InputError(
            f"`{feature.name}` must be described as {declared}",
            f"{described} {list(array.shape)}",
        )
