"""A program's constants in the form in which operations use them.

Decoded weights are kept for the next call up to a limit; what does not fit is
decoded anew in every call and released, so that a large model costs its stored
size on disk, not in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from edgekd.errors import GateError, InputError
from edgekd.export.coreml.mil import decompress
from edgekd.export.coreml.mil.datatypes import Array, Value, to_tensor
from edgekd.export.coreml.mil.package import Package
from edgekd.export.coreml.mil.program import Operation, Program, load_stored

# Decoded constants above this many bytes in total are not kept.
KEEP_BYTES = 2 << 30
# Shapes, axes and the like, up to this size, are kept regardless.
SMALL_BYTES = 1 << 12

Arrays = dict[str, Any]

# Kind -> {the parameters that must be there -> function of them}. Several where iOS 18 gave an
# operation a new form under the old name.
_Decoder = Callable[[Arrays], "Array | tuple[Array, ...]"]
DECODERS: dict[str, list[tuple[frozenset[str], frozenset[str], _Decoder]]] = {}


def _decoder(kind: str, required: str, optional: str = "") -> Callable[[_Decoder], _Decoder]:
    def register(function: _Decoder) -> _Decoder:
        form = (frozenset(required.split()), frozenset(optional.split()), function)
        DECODERS.setdefault(kind, []).append(form)
        return function

    return register


def _axis(arrays: Arrays, name: str) -> int | None:
    return None if arrays.get(name) is None else int(arrays[name])


@_decoder("constexpr_affine_dequantize", "quantized_data zero_point scale axis")
def _affine(a: Arrays) -> Array:
    return decompress.affine_dequantize(
        a["quantized_data"], a["scale"], a["zero_point"], int(a["axis"])
    )


@_decoder("constexpr_lut_to_dense", "indices lut shape")
def _packed_lut(a: Arrays) -> Array:
    return decompress.packed_lut_to_dense(a["indices"], a["lut"], a["shape"].tolist())


@_decoder("constexpr_lut_to_dense", "indices lut", "vector_axis")
def _lut(a: Arrays) -> Array:
    return decompress.lut_to_dense(a["indices"], a["lut"], _axis(a, "vector_axis"))


@_decoder("constexpr_sparse_to_dense", "nonzero_data mask shape")
def _packed_sparse(a: Arrays) -> Array:
    return decompress.packed_sparse_to_dense(a["nonzero_data"], a["mask"], a["shape"].tolist())


@_decoder("constexpr_sparse_to_dense", "nonzero_data mask")
def _sparse(a: Arrays) -> Array:
    return decompress.sparse_to_dense(a["nonzero_data"], a["mask"])


@_decoder("constexpr_blockwise_shift_scale", "data scale", "offset")
def _blockwise(a: Arrays) -> Array:
    return decompress.blockwise_shift_scale(a["data"], a["scale"], a.get("offset"))


@_decoder("constexpr_lut_to_sparse", "indices_mask indices_nonzero_data lut", "vector_axis")
def _lut_to_sparse(a: Arrays) -> tuple[Array, ...]:
    return decompress.lut_to_sparse(
        a["indices_mask"], a["indices_nonzero_data"], a["lut"], _axis(a, "vector_axis")
    )


@_decoder("constexpr_sparse_blockwise_shift_scale", "data_mask nonzero_data scale", "offset")
def _sparse_blockwise(a: Arrays) -> tuple[Array, ...]:
    return decompress.sparse_blockwise_shift_scale(
        a["data_mask"], a["nonzero_data"], a["scale"], a.get("offset")
    )


@_decoder("constexpr_cast", "source_val output_dtype")
def _cast(a: Arrays) -> Array:
    if a["output_dtype"] != "fp32":
        raise GateError("constexpr_cast must cast to fp32", repr(a["output_dtype"]))
    return np.asarray(a["source_val"], np.float32)


def find_decoder(operation: Operation) -> _Decoder:
    """The function of a `constexpr_*` operation.

    Raises:
        GateError: the evaluator does not know the operation with these parameters.
    """
    names = set(operation.inputs)
    for required, optional, function in DECODERS.get(operation.kind, []):
        if required <= names <= required | optional:
            return function
    raise GateError(
        "every operation must be known to the evaluator",
        f"{operation} with parameters {sorted(names)}",
    )


class Constants:
    """Loads and decodes constants by name.

    Args:
        keep_bytes: decoded constants are kept up to this total.
    """

    def __init__(self, package: Package, program: Program, keep_bytes: int = KEEP_BYTES) -> None:
        self._package = package
        self._stored = program.stored
        self._decoded = {
            output.name: (operation, index, find_decoder(operation))
            for operation in program.operations
            if operation.is_constant
            for index, output in enumerate(operation.outputs)
        }
        self._kept: dict[str, Value] = {}
        self._free_bytes = keep_bytes
        self._checked: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._stored or name in self._decoded

    def value(self, name: str) -> Value:
        """A constant as operations use it.

        Raises:
            InputError: the package does not hold it as declared.
            GateError: it is not a number. Rows of a table that no input asks for would otherwise
                hide it.
        """
        if name in self._kept:
            return self._kept[name]
        array = self.array(name)
        if name not in self._checked:
            self._check_numbers(name, array)
        value = array if isinstance(array, str) else to_tensor(array)
        size = 0 if isinstance(value, str) else value.element_size() * value.numel()
        if size <= SMALL_BYTES or size <= self._free_bytes:
            self._kept[name] = value
            self._free_bytes -= size
        return value

    def array(self, name: str) -> Array | str:
        """A constant as it is stored, decoded if it is compressed."""
        if name in self._stored:
            return load_stored(self._package, name, self._stored[name])
        operation, index, decode = self._decoded[name]
        result = decode({key: self._argument(operation, key) for key in operation.inputs})
        array = result[index] if isinstance(result, tuple) else result
        declared = operation.outputs[index].type
        if array.shape != declared.shape or array.dtype != declared.data_type.numpy:
            raise InputError(f"{operation} must give {declared}", f"{array.dtype} {array.shape}")
        return array

    def check(self) -> None:
        """Read what can be read cheaply: every constant's place in its file.

        Raises:
            InputError: a constant is not there, or not as declared.
        """
        for name, constant in self._stored.items():
            size = math.prod(constant.type.fixed_shape) * constant.type.data_type.bits // 8
            if constant.value.WhichOneof("value") == "blobFileValue":
                blob = constant.value.blobFileValue
                self._package.blob_file(blob.fileName).check(
                    blob.offset, constant.type.data_type, math.prod(constant.type.fixed_shape)
                )
            elif size <= SMALL_BYTES:
                self.value(name)

    def _argument(self, operation: Operation, key: str) -> Array | str:
        names = operation.inputs[key]
        if len(names) != 1 or names[0] not in self:
            raise InputError(f"{operation}: `{key}` must be a constant", str(names))
        return self.array(names[0])

    def _check_numbers(self, name: str, array: Array | str) -> None:
        if not isinstance(array, str) and array.dtype.kind == "f" and np.isnan(array).any():
            raise GateError(f"constant `{name}` must be a number everywhere", "NaN")
        self._checked.add(name)
