"""A MIL program as plain data: stored constants, and operations in their order.

Every argument is a name, also those that the file gives in place: these become
constants with a name of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekd.errors import GateError, InputError
from edgekd.export.coreml.mil.datatypes import DATA_TYPES, Array, TensorType, decode_elements
from edgekd.export.coreml.mil.package import Package


@dataclass(frozen=True)
class Stored:
    """A constant as it is in the package: protobuf `MIL.Value` and its type."""

    type: TensorType
    value: Any


@dataclass(frozen=True)
class Output:
    name: str
    type: TensorType


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        kind: MIL's name of it (`"conv"`).
        inputs: parameter -> names of its values; several only where the parameter is a tuple.
    """

    kind: str
    inputs: dict[str, tuple[str, ...]]
    outputs: tuple[Output, ...]

    def __str__(self) -> str:
        return f"operation {self.kind} `{', '.join(output.name for output in self.outputs)}`"

    @property
    def is_constant(self) -> bool:
        """Whether it stands for a compressed constant."""
        return self.kind.startswith("constexpr_")


@dataclass(frozen=True)
class Program:
    """Attributes:
    inputs, outputs: of the program; the outputs' types are those of the values.
    stored: name -> constant.
    operations: all others, each after those that it depends on.
    """

    inputs: dict[str, TensorType]
    outputs: tuple[str, ...]
    stored: dict[str, Stored]
    operations: tuple[Operation, ...]


def read_program(package: Package) -> Program:
    """Read a package's program.

    Raises:
        InputError: a value is used before it is defined, or defined twice.
        GateError: an operation with blocks, or a type that the evaluator does not know.
    """
    inputs = {item.name: read_type(item.type, item.name) for item in package.function.inputs}
    stored: dict[str, Stored] = {}
    operations: list[Operation] = []
    known = set(inputs)
    for proto in package.block.operations:
        operation = _read_operation(proto, stored)
        missing = [name for names in operation.inputs.values() for name in names]
        missing = [name for name in missing if name not in known and name not in stored]
        if missing:
            raise InputError(f"{operation} must use values defined before it", str(missing))
        for output in operation.outputs:
            if output.name in known or (proto.type != "const" and output.name in stored):
                raise InputError("a value must be defined once", f"`{output.name}` twice")
        if proto.type != "const":
            known.update(output.name for output in operation.outputs)
            operations.append(operation)
    outputs = tuple(package.block.outputs)
    missing = [name for name in outputs if name not in known and name not in stored]
    if missing or not outputs:
        raise InputError("the program must define its outputs", f"undefined: {missing}")
    return Program(inputs, outputs, stored, tuple(operations))


def read_type(proto: Any, name: str) -> TensorType:
    """A protobuf `ValueType`, which must be a tensor.

    Raises:
        GateError: another kind of type, or an element type that the evaluator does not know.
    """
    from coremltools import proto as schema

    if proto.WhichOneof("type") != "tensorType":
        raise GateError(f"`{name}` must be a tensor", str(proto.WhichOneof("type")))
    tensor = proto.tensorType
    names = {number: key for key, number in schema.MIL_pb2.DataType.items()}
    element = names.get(tensor.dataType, str(tensor.dataType))
    if element not in DATA_TYPES:
        raise GateError(f"the element type of `{name}` must be known to the evaluator", element)
    shape = tuple(
        int(dimension.constant.size) if dimension.HasField("constant") else None
        for dimension in tensor.dimensions
    )
    if tensor.rank != len(shape):
        raise InputError(f"`{name}` must have as many sizes as dimensions", str(tensor.rank))
    return TensorType(DATA_TYPES[element], shape)


def _read_operation(proto: Any, stored: dict[str, Stored]) -> Operation:
    """Read one operation; constants, also those given in place, go to `stored`."""
    outputs = tuple(Output(item.name, read_type(item.type, item.name)) for item in proto.outputs)
    operation = Operation(proto.type, {}, outputs)
    if proto.blocks:
        raise GateError("every operation must be known to the evaluator", f"{operation} (blocks)")
    if not outputs:
        raise GateError("every operation must have an output", proto.type)
    attributes = {key: value for key, value in proto.attributes.items() if key != "name"}
    if proto.type == "const":
        if set(attributes) != {"val"} or proto.inputs:
            raise InputError(f"{operation} must have one value", str(sorted(attributes)))
        _store(stored, outputs[0].name, attributes["val"], outputs[0].type)
        return operation
    inputs = {}
    for key, argument in proto.inputs.items():
        inputs[key] = tuple(_bindings(f"{outputs[0].name}.{key}", argument, stored))
    for key, value in attributes.items():
        name = f"{outputs[0].name}.{key}"
        _store(stored, name, value, read_type(value.type, name))
        inputs[key] = (name,)
    return Operation(proto.type, inputs, outputs)


def _bindings(name: str, argument: Any, stored: dict[str, Stored]) -> Iterator[str]:
    for index, binding in enumerate(argument.arguments):
        if binding.WhichOneof("binding") == "name":
            yield binding.name
        else:
            given = f"{name}.{index}"
            _store(stored, given, binding.value, read_type(binding.value.type, given))
            yield given


def _store(stored: dict[str, Stored], name: str, value: Any, declared: TensorType) -> None:
    if name in stored:
        raise InputError("a value must be defined once", f"`{name}` twice")
    if read_type(value.type, name) != declared:
        raise InputError(f"constant `{name}` must be {declared}", "a value of another type")
    stored[name] = Stored(declared, value)


def load_stored(package: Package, name: str, constant: Stored) -> Array | str:
    """A constant's elements, sub-byte integers unpacked, in its shape.

    Raises:
        InputError: the package does not hold them as declared.
    """
    data_type = constant.type.data_type
    shape = constant.type.fixed_shape
    count = math.prod(shape)
    value = constant.value
    if value.WhichOneof("value") == "blobFileValue":
        blob = value.blobFileValue
        return package.blob_file(blob.fileName).read(blob.offset, data_type, count).reshape(shape)
    if value.immediateValue.WhichOneof("value") != "tensor":
        raise InputError(f"constant `{name}` must be a tensor", "another kind of value")
    tensor = value.immediateValue.tensor
    field = tensor.WhichOneof("value")
    elements = getattr(tensor, field).values if field else b""
    if data_type.name == "string":
        if field != "strings" or len(elements) != 1 or shape:
            raise InputError(f"constant `{name}` must be one string", f"{field} {shape}")
        return str(elements[0])
    if field == "bytes":
        return decode_elements(elements, data_type, count).reshape(shape)
    if len(elements) != count:
        raise InputError(f"constant `{name}` must have {count} elements", str(len(elements)))
    array = np.array(elements, ndmin=1).astype(data_type.numpy)
    if not data_type.is_float and list(elements) != array.tolist():
        raise InputError(f"constant `{name}` must be {constant.type}", f"{field} beyond its range")
    return array.reshape(shape)
