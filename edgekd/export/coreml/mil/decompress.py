"""Compressed weights -> dense weights, from the stored numbers alone.

These are MIL's `constexpr_*` operations written from their documentation
(coremltools' "MIL Ops", iOS 16 and iOS 18). coremltools' own functions are not
used: they also wrote the package, and a fault in them would go unseen.

Shapes: D_i the sizes of the indices or data, P palette entries, V vector size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgekd.errors import InputError
from edgekd.export.coreml.mil.datatypes import Array, unpack_bits


def affine_dequantize(data: Array, scale: Array, zero_point: Array, axis: int) -> Array:
    """scale * (data - zero_point), both scalars or vectors along `axis`.

    Args:
        data: int8 or uint8.

    Returns:
        As `scale`'s type: the product is exact in float32, then rounded once.
    """
    shift = _along(zero_point, data.ndim, axis, data.shape)
    factor = _along(scale, data.ndim, axis, data.shape)
    dense = data.astype(np.float32)
    dense -= shift.astype(np.float32)
    dense *= factor.astype(np.float32)
    return _rounded(dense, scale.dtype)


def blockwise_shift_scale(data: Array, scale: Array, offset: Array | None) -> Array:
    """scale * (data - offset); each scale covers a block of data_size / scale_size elements.

    Args:
        data: [D_1 .. D_K] integers or numbers.
        scale, offset: [S_1 .. S_K], S_i divides D_i.
    """
    dense = data.astype(np.float32)
    blocked, shape = _blocked(dense, scale.shape)
    if offset is not None:
        if offset.shape != scale.shape:
            raise InputError(f"offsets must be of shape {scale.shape}", str(offset.shape))
        blocked -= _spread(offset).astype(np.float32)
    blocked *= _spread(scale).astype(np.float32)
    return _rounded(blocked.reshape(shape), scale.dtype)


def packed_lut_to_dense(indices: Array, lut: Array, shape: Sequence[int]) -> Array:
    """iOS 16 form: lut[index], indices packed into bytes, one palette for all.

    Args:
        indices: [ceil(bits * elements / 8)], uint8; bits = log2 P.
        lut: [P].
    """
    bits = _index_bits(lut.size)
    dense: Array = lut.reshape(-1)[unpack_bits(indices.tobytes(), bits, math.prod(shape))]
    return dense.reshape(shape)


def lut_to_dense(indices: Array, lut: Array, vector_axis: int | None) -> Array:
    """iOS 18 form: one palette for each block of indices, and entries that may be vectors.

    Args:
        indices: [D_1 .. D_K].
        lut: [S_1 .. S_K, P, V], S_i divides D_i.
        vector_axis: the axis along which an entry's V elements lie; None: V is 1.

    Returns:
        [D_1 .. D_K], with D * V along the vector axis.
    """
    palettes = _check_lut(indices, lut, vector_axis)
    groups, entries, width = palettes.shape
    group = np.arange(groups, dtype=np.int64).reshape(lut.shape[:-2])
    blocked, shape = _blocked(indices, lut.shape[:-2])
    flat = (blocked + _spread(group) * entries).reshape(shape)
    dense: Array = palettes.reshape(groups * entries, width)[flat]
    if vector_axis is None:
        return dense.reshape(indices.shape)
    axis = vector_axis % indices.ndim
    moved: Array = np.moveaxis(dense, -1, axis + 1)
    sizes = [size * (width if at == axis else 1) for at, size in enumerate(indices.shape)]
    return moved.reshape(sizes)


def packed_sparse_to_dense(nonzero: Array, mask: Array, shape: Sequence[int]) -> Array:
    """iOS 16 form: bits of `mask` say which elements are stored, the others are 0.

    Args:
        nonzero: [as many as bits are set].
        mask: [ceil(elements / 8)], uint8.
    """
    return sparse_to_dense(nonzero, unpack_bits(mask.tobytes(), 1, math.prod(shape))).reshape(shape)


def sparse_to_dense(nonzero: Array, mask: Array) -> Array:
    """iOS 18 form: `mask` has the dense shape.

    Raises:
        InputError: mask and elements do not agree in number.
    """
    chosen = mask != 0
    count = int(np.count_nonzero(chosen))
    if nonzero.shape != (count,):
        raise InputError(f"a mask of {count} elements needs as many stored", str(nonzero.shape))
    dense = np.zeros(mask.shape, nonzero.dtype)
    dense[chosen] = nonzero
    return dense


def lut_to_sparse(
    mask: Array, nonzero_indices: Array, lut: Array, vector_axis: int | None
) -> tuple[Array, Array]:
    """Palettes on the stored elements only -> their mask, and them."""
    dense = lut_to_dense(sparse_to_dense(nonzero_indices, mask), lut, vector_axis)
    if vector_axis is not None:
        mask = np.repeat(mask, lut.shape[-1], axis=vector_axis)
    return mask, dense[mask != 0]


def sparse_blockwise_shift_scale(
    mask: Array, nonzero: Array, scale: Array, offset: Array | None
) -> tuple[Array, Array]:
    """Shift and scale on the stored elements only -> their mask, and them."""
    dense = blockwise_shift_scale(sparse_to_dense(nonzero, mask), scale, offset)
    return mask, dense[mask != 0]


def _check_lut(indices: Array, lut: Array, vector_axis: int | None) -> Array:
    """The palettes as [groups, P, V]."""
    if lut.ndim != indices.ndim + 2:
        raise InputError(f"palettes must have {indices.ndim + 2} dimensions", f"shape {lut.shape}")
    entries, width = lut.shape[-2:]
    if vector_axis is None and width != 1:
        raise InputError("palettes of vectors need a vector axis", f"vectors of {width}")
    if vector_axis is not None and not -indices.ndim <= vector_axis < indices.ndim:
        raise InputError(f"the vector axis must be below {indices.ndim}", str(vector_axis))
    if indices.size and int(indices.max()) >= entries:
        raise InputError(f"indices must be below {entries}", str(indices.max()))
    return lut.reshape(-1, entries, width)


def _index_bits(entries: int) -> int:
    bits = entries.bit_length() - 1
    if entries != 1 << bits or bits not in (1, 2, 4, 6, 8):
        raise InputError("palettes must have 2, 4, 16, 64 or 256 entries", str(entries))
    return bits


def _along(vector: Array, rank: int, axis: int, shape: tuple[int, ...]) -> Array:
    """A scalar, or a vector along `axis`, ready to broadcast against `shape`."""
    if vector.ndim == 0:
        return vector
    if not -rank <= axis < rank or vector.shape != (shape[axis],):
        raise InputError(
            f"a vector along axis {axis} of {shape} must fit it", f"shape {vector.shape}"
        )
    sizes = [1] * rank
    sizes[axis] = -1
    return vector.reshape(sizes)


def _blocked(data: Array, blocks: tuple[int, ...]) -> tuple[Array, tuple[int, ...]]:
    """[D_1 .. D_K] as [S_1, D_1/S_1, .. S_K, D_K/S_K], and the shape before."""
    if len(blocks) != data.ndim or any(
        count < 1 or size % count for size, count in zip(data.shape, blocks, strict=False)
    ):
        raise InputError(f"blocks must divide the data's shape {data.shape}", str(blocks))
    sizes = [part for n, s in zip(data.shape, blocks, strict=True) for part in (s, n // s)]
    return data.reshape(sizes), data.shape


def _spread(values: Array) -> Array:
    """[S_1 .. S_K] -> [S_1, 1, .. S_K, 1], to broadcast against blocks."""
    return values.reshape([part for size in values.shape for part in (size, 1)])


def _rounded(dense: Array, dtype: np.dtype[np.generic]) -> Array:
    # Beyond fp16's range it becomes infinite, as in the package's own type; it must not warn.
    with np.errstate(over="ignore"):
        return dense.astype(dtype)
