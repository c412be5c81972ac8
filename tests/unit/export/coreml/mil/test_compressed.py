"""Compressed constants in packages, as iOS 17 and iOS 18 store them."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mil_cases import run

from edgekd.errors import GateError
from edgekd.export.coreml.mil.blob import RECORD
from edgekd.export.coreml.mil.evaluator import PackageEvaluator

RNG = np.random.default_rng(0)
# Above the size from which coremltools stores constants in the weight file.
SHAPE = (8, 12)
X = torch.from_numpy(RNG.standard_normal((3, 12)).astype(np.float32))
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


@dataclass(frozen=True)
class Form:
    """`build(mb)` makes a constant, `dense` is what it stands for."""

    label: str
    target: str
    build: Callable[[Any], Any]
    dense: np.ndarray


def typed(array: np.ndarray, name: str) -> np.ndarray:
    """Integers marked as of fewer than 8 bits, as coremltools marks them."""
    from coremltools.converters.mil.mil import types

    return array.astype(types.nptype_from_builtin(types.string_to_builtin(name)))


def pack(numbers: np.ndarray, bits: int) -> np.ndarray:
    """iOS 16's form of indices, by arithmetic on one large integer."""
    flat = [int(number) for number in numbers.reshape(-1)]
    total = sum(number << (bits * at) for at, number in enumerate(flat))
    return np.frombuffer(total.to_bytes(-(-bits * len(flat) // 8), "little"), np.uint8)


def affine() -> Form:
    data = RNG.integers(-128, 128, SHAPE).astype(np.int8)
    scale = (RNG.random(8) / 50 + 0.01).astype(np.float32)
    shift = RNG.integers(-9, 9, 8).astype(np.int8)
    return Form(
        "affine",
        "iOS17",
        lambda mb: mb.constexpr_affine_dequantize(
            quantized_data=data, scale=scale, zero_point=shift, axis=np.int32(0)
        ),
        scale[:, None] * (data.astype(np.float32) - shift[:, None]),
    )


def packed_palette(bits: int) -> Form:
    indices = RNG.integers(0, 1 << bits, SHAPE)
    lut = RNG.standard_normal(1 << bits).astype(np.float32)
    return Form(
        f"packed palette {bits} bits",
        "iOS17",
        lambda mb: mb.constexpr_lut_to_dense(
            indices=pack(indices, bits), lut=lut, shape=np.uint32(SHAPE)
        ),
        lut[indices],
    )


def packed_sparse() -> Form:
    mask = RNG.random(SHAPE) < 0.4
    values = RNG.standard_normal(int(mask.sum())).astype(np.float32)
    dense = np.zeros(SHAPE, np.float32)
    dense[mask] = values
    return Form(
        "packed sparse",
        "iOS17",
        lambda mb: mb.constexpr_sparse_to_dense(
            nonzero_data=values, mask=pack(mask, 1), shape=np.uint32(SHAPE)
        ),
        dense,
    )


def grouped_palette(bits: int) -> Form:
    """Two palettes, rows 0 to 3 and 4 to 7."""
    indices = RNG.integers(0, 1 << bits, SHAPE)
    lut = RNG.standard_normal((2, 1, 1 << bits, 1)).astype(np.float32)
    dense = np.concatenate([lut[0, 0, :, 0][indices[:4]], lut[1, 0, :, 0][indices[4:]]])
    return Form(
        f"grouped palette {bits} bits",
        "iOS18",
        lambda mb: mb.constexpr_lut_to_dense(indices=typed(indices, f"uint{bits}"), lut=lut),
        dense,
    )


def vector_palette() -> Form:
    indices = RNG.integers(0, 16, (4, 12))
    lut = RNG.standard_normal((1, 1, 16, 2)).astype(np.float32)
    dense = np.empty(SHAPE, np.float32)
    dense[0::2], dense[1::2] = lut[0, 0, :, 0][indices], lut[0, 0, :, 1][indices]
    return Form(
        "vector palette",
        "iOS18",
        lambda mb: mb.constexpr_lut_to_dense(
            indices=typed(indices, "uint4"), lut=lut, vector_axis=np.int32(0)
        ),
        dense,
    )


def blockwise(name: str) -> Form:
    low, high = {"int4": (-8, 8), "uint4": (0, 16), "int8": (-128, 128)}[name]
    data = RNG.integers(low, high, SHAPE)
    scale = RNG.random((8, 3)).astype(np.float32)
    shift = RNG.integers(max(low, -8), min(high, 8), (8, 3))
    dense = scale.repeat(4, 1) * (data - shift.repeat(4, 1)).astype(np.float32)
    return Form(
        f"blockwise {name}",
        "iOS18",
        lambda mb: mb.constexpr_blockwise_shift_scale(
            data=typed(data, name), scale=scale, offset=typed(shift, name)
        ),
        dense,
    )


def sparse() -> Form:
    mask = RNG.random(SHAPE) < 0.4
    values = RNG.standard_normal(int(mask.sum())).astype(np.float32)
    dense = np.zeros(SHAPE, np.float32)
    dense[mask] = values
    return Form(
        "sparse",
        "iOS18",
        lambda mb: mb.constexpr_sparse_to_dense(nonzero_data=values, mask=typed(mask, "uint1")),
        dense,
    )


def sparse_palette() -> Form:
    mask = RNG.random(SHAPE) < 0.5
    indices = RNG.integers(0, 8, int(mask.sum()))
    lut = RNG.standard_normal((1, 1, 8, 1)).astype(np.float32)
    dense = np.zeros(SHAPE, np.float32)
    dense[mask] = lut[0, 0, :, 0][indices]

    def build(mb: Any) -> Any:
        found, values = mb.constexpr_lut_to_sparse(
            indices_mask=typed(mask, "uint1"), indices_nonzero_data=typed(indices, "uint3"), lut=lut
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=found)

    return Form("sparse palette", "iOS18", build, dense)


def sparse_blockwise() -> Form:
    mask = RNG.random(SHAPE) < 0.5
    data = RNG.integers(-128, 128, int(mask.sum())).astype(np.int8)
    scale = RNG.random((8, 1)).astype(np.float32)
    dense = np.zeros(SHAPE, np.float32)
    dense[mask] = data
    dense *= scale

    def build(mb: Any) -> Any:
        found, values = mb.constexpr_sparse_blockwise_shift_scale(
            data_mask=typed(mask, "uint1"), nonzero_data=data, scale=scale
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=found)

    return Form("sparse blockwise", "iOS18", build, dense)


def quantized_palette() -> Form:
    """A palette of int8 entries, scaled for each row."""
    indices = RNG.integers(0, 4, SHAPE)
    lut = RNG.integers(-128, 128, (1, 1, 4, 1)).astype(np.int8)
    scale = RNG.random((8, 1)).astype(np.float32)

    def build(mb: Any) -> Any:
        entries = mb.constexpr_lut_to_dense(indices=typed(indices, "uint2"), lut=lut)
        return mb.constexpr_blockwise_shift_scale(data=entries, scale=scale)

    return Form("quantized palette", "iOS18", build, scale * lut[0, 0, :, 0][indices])


def cast() -> Form:
    stored = RNG.standard_normal(SHAPE).astype(np.float16)
    return Form(
        "cast",
        "iOS17",
        lambda mb: mb.constexpr_cast(source_val=stored, output_dtype="fp32"),
        stored.astype(np.float32),
    )


FORMS = [
    affine(),
    *(packed_palette(bits) for bits in (1, 2, 4, 6, 8)),
    packed_sparse(),
    cast(),
    *(grouped_palette(bits) for bits in (1, 2, 3, 4, 6, 8)),
    vector_palette(),
    *(blockwise(name) for name in ("int4", "uint4", "int8")),
    sparse(),
    sparse_palette(),
    sparse_blockwise(),
    quantized_palette(),
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.label)
def test_compressed_weight_equals_its_dense_form(form, save_package):
    package = save_package(lambda mb, x: mb.linear(x=x, weight=form.build(mb)), (X,), form.target)
    evaluator = PackageEvaluator(package)
    (output,) = evaluator({"x": X.numpy()}).values()
    expected = X @ torch.from_numpy(np.ascontiguousarray(form.dense)).T
    torch.testing.assert_close(torch.from_numpy(output), expected)


def blobs(package: Path) -> list[tuple[int, int, int]]:
    """(type code, offset, size in bytes) of all data in the weight file."""
    data = (package / WEIGHTS).read_bytes()
    found = []
    for at in range(64, len(data) - 63, 64):
        sentinel, code, size, offset, _ = RECORD.unpack_from(data, at)
        if sentinel == 0xDEADBEEF:
            found.append((code, offset, size))
    return found


def overwrite(package: Path, offset: int, data: bytes) -> None:
    with (package / WEIGHTS).open("r+b") as file:
        file.seek(offset)
        file.write(data)


def palette_package(save_package: Callable[..., Path]) -> tuple[Path, np.ndarray]:
    form = grouped_palette(4)
    package = save_package(lambda mb, x: mb.linear(x=x, weight=form.build(mb)), (X,), "iOS18")
    (output,) = PackageEvaluator(package)({"x": X.numpy()}).values()
    return package, output


def test_flipped_palette_byte_changes_the_output(save_package):
    package, before = palette_package(save_package)
    offset = next(offset for code, offset, _ in blobs(package) if code == 2)
    # The exponent of the first entry.
    stored = (package / WEIGHTS).read_bytes()[offset + 3]
    overwrite(package, offset + 3, bytes([stored ^ 0x01]))
    (after,) = PackageEvaluator(package)({"x": X.numpy()}).values()
    assert np.abs(after - before).max() > 0.1


def test_flipped_index_byte_changes_the_output(save_package):
    package, before = palette_package(save_package)
    offset = next(offset for code, offset, _ in blobs(package) if code == 11)
    overwrite(package, offset, bytes([(package / WEIGHTS).read_bytes()[offset] ^ 0xFF]))
    (after,) = PackageEvaluator(package)({"x": X.numpy()}).values()
    assert np.abs(after - before).max() > 0.01


def test_nan_in_a_palette_fails(save_package):
    package, _ = palette_package(save_package)
    for code, offset, size in blobs(package):
        if code == 2:
            overwrite(package, offset, struct.pack("<f", np.nan) * (size // 4))
    with pytest.raises(GateError, match=r"constant `.*` must be a number everywhere, but got NaN"):
        PackageEvaluator(package)({"x": X.numpy()})


def test_nan_in_an_unused_row_fails(save_package):
    table = RNG.standard_normal((50, 8)).astype(np.float32)
    table[49, 3] = np.nan
    indices = torch.tensor([0, 1], dtype=torch.int32)
    with pytest.raises(GateError, match="must be a number everywhere"):
        run(save_package, lambda mb, x: mb.gather(x=table, indices=x, axis=0), indices)
