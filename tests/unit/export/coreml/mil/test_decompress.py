"""Compressed weights, by hand and against coremltools on good cases."""

from typing import Any

import numpy as np
import pytest

from edgekd.errors import InputError
from edgekd.export.coreml.mil import decompress

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def ios18() -> Any:
    from coremltools.converters.mil.mil.ops.defs.iOS18 import compression

    return compression


@pytest.fixture(scope="module")
def ios16() -> Any:
    from coremltools.converters.mil.mil.ops.defs.iOS16 import constexpr_ops

    return constexpr_ops


def test_affine_by_hand():
    data = np.int8([[10, -128], [127, 0]])
    dense = decompress.affine_dequantize(data, np.float32([0.5, 2]), np.int8([10, -128]), 0)
    assert dense.tolist() == [[0, -69], [510, 256]]
    dense = decompress.affine_dequantize(data, np.float32([0.5, 2]), np.int8([10, -128]), -1)
    assert dense.tolist() == [[0, 0], [58.5, 256]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_affine_against_coremltools(ios16, dtype, axis):
    data = RNG.integers(-128, 128, (6, 6, 3)).astype(np.int8)[:, :, :3]
    size = data.shape[axis]
    scale = RNG.random(size).astype(dtype)
    shift = RNG.integers(-128, 128, size).astype(np.int8)
    dense = decompress.affine_dequantize(data, scale, shift, axis)
    theirs = ios16.constexpr_affine_dequantize.decompress(data, shift, scale, axis)
    assert dense.dtype == dtype
    # Theirs is computed in the type of the scale.
    np.testing.assert_allclose(dense, theirs, rtol=2 * np.finfo(dtype).eps)


def test_affine_vector_must_fit_its_axis():
    with pytest.raises(InputError, match="a vector along axis 1"):
        decompress.affine_dequantize(np.zeros((2, 3), np.int8), np.ones(2), np.int8(0), 1)


def test_blockwise_by_hand():
    # Blocks of two columns; one scale and offset each.
    data = np.int8([[1, 2, 3, 4]])
    dense = decompress.blockwise_shift_scale(data, np.float32([[10, 0.5]]), np.int8([[1, -1]]))
    assert dense.tolist() == [[0, 10, 2, 2.5]]
    assert decompress.blockwise_shift_scale(data, np.float32([[2, 1]]), None).tolist() == [
        [2, 4, 3, 4]
    ]


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("blocks", [(4, 6, 1), (2, 3, 1), (1, 1, 1)])
def test_blockwise_against_coremltools(ios18, blocks, offset):
    data = RNG.integers(-8, 8, (4, 6, 3)).astype(np.int8)
    scale = RNG.random(blocks).astype(np.float16)
    shift = RNG.integers(-8, 8, blocks).astype(np.int8) if offset else None
    dense = decompress.blockwise_shift_scale(data, scale, shift)
    theirs = ios18.constexpr_blockwise_shift_scale.decompress(data, scale, shift)
    np.testing.assert_array_equal(dense, theirs)


@pytest.mark.parametrize("blocks", [(3, 1), (0, 1), (2,)])
def test_blocks_must_divide_the_data(blocks):
    with pytest.raises(InputError, match="blocks must divide"):
        decompress.blockwise_shift_scale(np.zeros((4, 2), np.int8), np.ones(blocks), None)


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_packed_palette_against_coremltools(ios16, bits):
    lut = RNG.standard_normal(1 << bits).astype(np.float16)
    size = -(-15 * bits // 8)
    packed = RNG.integers(0, 256, size).astype(np.uint8)
    packed[-1] &= (1 << (15 * bits - 8 * (size - 1))) - 1
    dense = decompress.packed_lut_to_dense(packed, lut, (3, 5))
    np.testing.assert_array_equal(
        dense, ios16.constexpr_lut_to_dense.decompress(lut, packed, (3, 5))
    )


def test_packed_palette_must_have_a_known_size():
    with pytest.raises(InputError, match="palettes must have 2, 4, 16, 64 or 256 entries"):
        decompress.packed_lut_to_dense(np.zeros(1, np.uint8), np.zeros(3), (2,))


def test_grouped_palette_by_hand():
    # The example of MIL Ops, iOS 18: the first three rows use the first palette.
    indices = np.uint8([2, 3, 3, 0, 1, 0, 3, 0, 2, 1, 0, 3]).reshape(6, 2)
    lut = np.float16([1, 5, 9, 13, 2, 10, 18, 26]).reshape(2, 1, 4, 1)
    assert decompress.lut_to_dense(indices, lut, None).tolist() == [
        [9, 13],
        [13, 1],
        [5, 1],
        [26, 2],
        [18, 10],
        [2, 26],
    ]


def test_vector_palette_by_hand():
    indices = np.uint8([[0, 1], [1, 0]])
    lut = np.float32([1, 2, 3, 7, 8, 9]).reshape(1, 1, 2, 3)
    rows = [[1, 7], [2, 8], [3, 9], [7, 1], [8, 2], [9, 3]]
    assert decompress.lut_to_dense(indices, lut, 0).tolist() == rows
    columns = [[1, 2, 3, 7, 8, 9], [7, 8, 9, 1, 2, 3]]
    assert decompress.lut_to_dense(indices, lut, 1).tolist() == columns
    assert decompress.lut_to_dense(indices, lut, -1).tolist() == columns


@pytest.mark.parametrize("groups", [(1, 1, 1), (2, 1, 1), (2, 3, 1)])
@pytest.mark.parametrize(("vector", "axis"), [(1, None), (1, 0), (2, 0), (3, 1)])
def test_palettes_against_coremltools(ios18, groups, vector, axis):
    indices = RNG.integers(0, 8, (4, 6, 3)).astype(np.uint8)
    lut = RNG.standard_normal((*groups, 8, vector)).astype(np.float16)
    dense = decompress.lut_to_dense(indices, lut, axis)
    at = None if axis is None else np.int32(axis)
    np.testing.assert_array_equal(dense, ios18.constexpr_lut_to_dense.decompress(indices, lut, at))


def test_index_must_be_in_the_palette():
    with pytest.raises(InputError, match="indices must be below 2"):
        decompress.lut_to_dense(np.uint8([2]), np.zeros((1, 2, 1)), None)


def test_vectors_need_an_axis():
    with pytest.raises(InputError, match="need a vector axis"):
        decompress.lut_to_dense(np.uint8([1]), np.zeros((1, 2, 3)), None)
    with pytest.raises(InputError, match="the vector axis must be below 1"):
        decompress.lut_to_dense(np.uint8([1]), np.zeros((1, 2, 3)), 1)


def test_sparse_by_hand():
    # MIL Ops, iOS 16: bits from the lowest; elements 2 and 3 are stored.
    dense = decompress.packed_sparse_to_dense(np.float32([5, 6]), np.uint8([0b01100]), (5,))
    assert dense.tolist() == [0, 0, 5, 6, 0]
    mask = np.uint8([[1, 0], [0, 1]])
    assert decompress.sparse_to_dense(np.int8([3, 4]), mask).tolist() == [[3, 0], [0, 4]]


def test_mask_and_elements_must_agree():
    with pytest.raises(InputError, match="a mask of 2 elements needs as many"):
        decompress.packed_sparse_to_dense(np.float32([5]), np.uint8([0b11]), (5,))


def test_sparse_palette_by_hand():
    # The example of MIL Ops, iOS 18.
    mask = np.uint8(
        [[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1], [0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0]]
    )
    indices = np.uint8([0, 1, 1, 0, 1, 1, 0, 0, 1])
    found, values = decompress.lut_to_sparse(
        mask, indices, np.float16([2, 3]).reshape(1, 1, 2, 1), None
    )
    assert found.tolist() == mask.tolist()
    assert values.tolist() == [2, 3, 3, 2, 3, 3, 2, 2, 3]
    found, values = decompress.lut_to_sparse(
        mask, indices, np.float16([2, 2, 3, 3]).reshape(1, 1, 2, 2), 0
    )
    assert found.tolist() == np.repeat(mask, 2, axis=0).tolist()
    assert values.tolist() == [2, 3, 2, 3, 3, 2, 3, 3, 2, 3, 3, 2, 2, 3, 2, 2, 3, 3]


def test_sparse_blocks_by_hand():
    # The example of MIL Ops, iOS 18: a scale and an offset for each column.
    mask = np.uint8([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0]])
    data = np.int8([10, 11, 3, 4, 5, 6, 7, 8, 9])
    found, values = decompress.sparse_blockwise_shift_scale(
        mask, data, np.float32([[0.1, 0.2, 0.3, 0.4]]), np.int8([[1, 2, 3, 4]])
    )
    assert found.tolist() == mask.tolist()
    np.testing.assert_allclose(values, [0.9, 1.8, 0.2, 0.4, 0.6, 0.9, 1.2, 0.7, 1.4], rtol=1e-6)


def test_nan_and_infinity_stay():
    nan = decompress.lut_to_dense(np.uint8([0, 1]), np.float32([[[1], [np.nan]]])[0][None], None)
    assert np.isnan(nan).tolist() == [False, True]
    scaled = decompress.blockwise_shift_scale(np.int8([1, 1]), np.float16([np.nan, 6e4]), None)
    assert np.isnan(scaled[0])
    large = decompress.blockwise_shift_scale(np.int8([2]), np.float16([6e4]), None)
    assert np.isinf(large).all()
