"""Stored elements and casts."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgekd.errors import GateError, InputError
from edgekd.export.coreml.mil.datatypes import (
    BY_NAME,
    cast_tensor,
    decode_elements,
    to_tensor,
    unpack_bits,
)

WIDTHS = (1, 2, 3, 4, 6, 8)


def pack(numbers: list[int], bits: int) -> bytes:
    """By arithmetic on one large integer."""
    total = sum((number % (1 << bits)) << (bits * at) for at, number in enumerate(numbers))
    return total.to_bytes((bits * len(numbers) + 7) // 8, "little")


def test_bits_run_upwards_as_in_the_documentation():
    # MIL Ops, constexpr_lut_to_dense: i0 = 00, i1 = 11, i2 = 10, i3 = 01, i4 = 11.
    assert unpack_bits(bytes([0b01101100, 0b00000011]), 2, 5).tolist() == [0, 3, 2, 1, 3]


def test_an_integer_runs_on_into_the_next_byte():
    # 6 bits: 0b111111 then 0b000001, of which two bits lie in the first byte.
    assert unpack_bits(bytes([0b01111111, 0b00000000]), 6, 2).tolist() == [63, 1]


@given(st.data())
def test_unpacking_reverses_packing(data):
    bits = data.draw(st.sampled_from(WIDTHS))
    numbers = data.draw(st.lists(st.integers(0, (1 << bits) - 1), max_size=40))
    assert unpack_bits(pack(numbers, bits), bits, len(numbers)).tolist() == numbers


def test_signed_integers_are_in_twos_complement():
    numbers = list(range(-8, 8))
    found = unpack_bits(pack(numbers, 4), 4, 16, signed=True)
    assert found.dtype == np.int8
    assert found.tolist() == numbers


@pytest.mark.parametrize("size", [1, 3])
def test_number_of_bytes_must_fit(size):
    with pytest.raises(InputError, match="5 integers of 2 bits must fill 2 bytes"):
        unpack_bits(bytes(size), 2, 5)


def test_bits_behind_the_last_integer_must_be_zero():
    with pytest.raises(InputError, match="padding behind packed integers must be zero"):
        unpack_bits(bytes([0, 0b00000100]), 2, 5)


def test_wide_elements_must_fill_their_bytes():
    assert decode_elements(b"\x00\x3c", BY_NAME["fp16"], 1).tolist() == [1.0]
    with pytest.raises(InputError, match="2 elements of fp16 must fill 4 bytes"):
        decode_elements(b"\x00\x3c", BY_NAME["fp16"], 2)


def test_constants_beyond_int32_are_refused():
    with pytest.raises(InputError, match=r"integer constants must be below 2\^31"):
        to_tensor(np.uint32([2**31]))


def test_cast_to_fp16_rounds_and_overflows():
    cast = cast_tensor(torch.tensor([1.0001, 65519.0, 65520.0, -1e9]), BY_NAME["fp16"], "here")
    assert cast.dtype == torch.float32
    assert cast.tolist() == [1.0, 65504.0, math.inf, -math.inf]


@pytest.mark.parametrize(
    ("name", "value"), [("int8", 128), ("uint8", -1), ("int16", 40000), ("uint16", 70000)]
)
def test_cast_to_a_narrow_integer_must_fit(name, value):
    with pytest.raises(GateError, match=f"here: a value cast to {name} must fit"):
        cast_tensor(torch.tensor([value], dtype=torch.int32), BY_NAME[name], "here")


def test_cast_truncates_towards_zero():
    cast = cast_tensor(torch.tensor([-1.7, 1.7, 2147483520.0]), BY_NAME["int32"], "here")
    assert cast.tolist() == [-1, 1, 2147483520]
