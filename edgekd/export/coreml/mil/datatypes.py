"""MIL's element types: how they are stored, and what holds them while evaluating.

While evaluating, every floating point tensor is float32, every integer tensor
int32, every boolean tensor bool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgekd.errors import GateError, InputError

Array = npt.NDArray[Any]
Value = Tensor | str


@dataclass(frozen=True)
class DataType:
    """An element type.

    Attributes:
        name: MIL's name (`"fp16"`).
        bits: width of a stored element; below 8, elements are packed.
        numpy: numpy name of one unpacked element.
        blob_code: type code in weight files, see `BlobFile`; None: never stored there.
    """

    name: str
    bits: int
    numpy: str
    blob_code: int | None

    @property
    def is_float(self) -> bool:
        return self.numpy.startswith("float")

    @property
    def torch(self) -> torch.dtype:
        """What holds this type while evaluating."""
        if self.is_float:
            return torch.float32
        return torch.bool if self.name == "bool" else torch.int32


# Name in the protobuf -> type. Codes: BlobDataType of MIL's weight storage, version 2.
DATA_TYPES = {
    "BOOL": DataType("bool", 8, "bool", None),
    "STRING": DataType("string", 8, "str", None),
    "FLOAT16": DataType("fp16", 16, "float16", 1),
    "FLOAT32": DataType("fp32", 32, "float32", 2),
    "INT4": DataType("int4", 4, "int8", 8),
    "INT8": DataType("int8", 8, "int8", 4),
    "INT16": DataType("int16", 16, "int16", 6),
    "INT32": DataType("int32", 32, "int32", 14),
    "UINT1": DataType("uint1", 1, "uint8", 9),
    "UINT2": DataType("uint2", 2, "uint8", 10),
    "UINT3": DataType("uint3", 3, "uint8", 12),
    "UINT4": DataType("uint4", 4, "uint8", 11),
    "UINT6": DataType("uint6", 6, "uint8", 13),
    "UINT8": DataType("uint8", 8, "uint8", 3),
    "UINT16": DataType("uint16", 16, "uint16", 7),
    "UINT32": DataType("uint32", 32, "uint32", 15),
}
BY_NAME = {data_type.name: data_type for data_type in DATA_TYPES.values()}


@dataclass(frozen=True)
class TensorType:
    """Element type and shape; a size that is not known before running is None."""

    data_type: DataType
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.data_type.name} [{sizes}]"

    @property
    def fixed_shape(self) -> tuple[int, ...]:
        """The shape where all sizes must be known.

        Raises:
            InputError: a size is not known.
        """
        sizes = tuple(size for size in self.shape if size is not None)
        if len(sizes) != len(self.shape):
            raise InputError("the sizes of inputs and constants must be fixed", str(self))
        return sizes

    def accepts(self, value: Value) -> bool:
        """Whether an evaluated value is of this type."""
        if isinstance(value, str):
            return self.data_type.name == "string"
        return (
            value.dtype == self.data_type.torch
            and value.dim() == len(self.shape)
            and all(want in (None, got) for want, got in zip(self.shape, value.shape, strict=True))
        )


def unpack_bits(packed: bytes, bits: int, count: int, signed: bool = False) -> Array:
    """`count` integers of `bits` bits, packed from the least significant bit of the first byte
    upwards, an integer running on into the next byte's low bits.

    Args:
        bits: 1, 2, 3, 4, 6 or 8.
        signed: the integers are in two's complement.

    Returns:
        [count], uint8 or int8.

    Raises:
        InputError: too few or too many bytes, or bits set behind the last integer.
    """
    needed = (count * bits + 7) // 8
    if len(packed) != needed:
        raise InputError(
            f"{count} integers of {bits} bits must fill {needed} bytes", f"{len(packed)} bytes"
        )
    # Whole groups: the fewest bytes that hold a whole number of integers.
    group_bytes = 1 if 8 % bits == 0 else 3
    padded = packed + bytes(-len(packed) % group_bytes)
    groups = np.frombuffer(padded, np.uint8).reshape(-1, group_bytes)
    word_type = np.uint8 if group_bytes == 1 else np.uint32
    words = np.zeros(len(groups), word_type)
    for index in range(group_bytes):
        words |= groups[:, index].astype(word_type) << word_type(8 * index)
    shifts = np.arange(0, 8 * group_bytes, bits, dtype=word_type)
    mask = word_type((1 << bits) - 1)
    numbers: Array = ((words[:, None] >> shifts) & mask).astype(np.uint8).reshape(-1)
    if numbers[count:].any():
        raise InputError("padding behind packed integers must be zero", "bits that are set")
    numbers = numbers[:count]
    if not signed:
        return numbers
    sign = np.uint8(1 << (bits - 1))
    extended: Array = (numbers ^ sign).astype(np.int16) - np.int16(sign)
    return extended.astype(np.int8)


def decode_elements(data: bytes, data_type: DataType, count: int) -> Array:
    """`count` stored elements, as a flat array of `data_type.numpy`.

    Raises:
        InputError: the bytes do not hold exactly so many.
    """
    if data_type.bits < 8:
        signed = data_type.numpy == "int8"
        return unpack_bits(data, data_type.bits, count, signed)
    if len(data) * 8 != count * data_type.bits:
        raise InputError(
            f"{count} elements of {data_type.name} must fill {count * data_type.bits // 8} bytes",
            f"{len(data)} bytes",
        )
    return np.frombuffer(data, np.dtype(data_type.numpy).newbyteorder("<"))


def to_tensor(array: Array) -> Tensor:
    """A stored array as it is held while evaluating; never shares the array's memory."""
    kind = array.dtype.kind
    if kind == "f":
        return torch.from_numpy(array.astype(np.float32))
    if kind == "b":
        return torch.from_numpy(array.copy())
    if array.size and (array.max() > 2**31 - 1):
        raise InputError("integer constants must be below 2^31", str(array.max()))
    return torch.from_numpy(array.astype(np.int32))


def cast_tensor(tensor: Tensor, data_type: DataType, where: str) -> Tensor:
    """A value cast to `data_type`, held as described above.

    A cast to fp16 rounds: values beyond its range become infinite and show in the outputs. A cast
    to an integer type truncates towards zero.

    Raises:
        GateError: a value that the integer type cannot hold.
    """
    if data_type.name == "fp16":
        return tensor.to(torch.float16).to(torch.float32)
    if data_type.is_float or data_type.name == "bool":
        return tensor.to(data_type.torch)
    low, high = integer_range(data_type)
    whole = tensor.to(torch.float64).trunc()
    # Written so that NaN fails.
    if not bool(((whole >= low) & (whole <= high)).all()):
        raise GateError(f"{where}: a value cast to {data_type.name} must fit", "one that does not")
    return whole.to(torch.int32)


def integer_range(data_type: DataType) -> tuple[int, int]:
    """Lowest and highest value of an integer type."""
    if data_type.name.startswith("u"):
        return 0, min(2**data_type.bits, 2**31) - 1
    return -(2 ** (data_type.bits - 1)), 2 ** (data_type.bits - 1) - 1
