import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.errors import InputError
from edgekd.runtime.noise import TorchGenerator

# Where torch's kernel approximates logarithm and sine in float32 (AVX2 and wider), values differ
# from the exact ones by up to 4.8e-7; where it calls the C library (no AVX2, other processors), the
# angle is rounded after another multiplication: 2.1e-6 over a million values of each.
ATOL = 2.5e-6


def reference(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).numpy() for shape in shapes]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 200))
def test_same_values_as_torch(seed, size):
    (expected,) = reference(seed, (size,))
    found = TorchGenerator(seed).randn((size,))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (1, 4, 9, 7), (1, 4, 64, 64), (3, 5)])
def test_same_values_in_latent_shapes(shape):
    (expected,) = reference(1234, shape)
    np.testing.assert_allclose(TorchGenerator(1234).randn(shape), expected, rtol=0, atol=ATOL)


def test_many_values():
    (expected,) = reference(7, (1 << 20,))
    np.testing.assert_allclose(TorchGenerator(7).randn((1 << 20,)), expected, rtol=0, atol=ATOL)


def test_few_values_are_the_same_to_the_last_bit():
    for size in range(16):
        (expected,) = reference(size, (size,))
        np.testing.assert_array_max_ulp(TorchGenerator(size).randn((size,)), expected, maxulp=1)


def test_a_generator_goes_on_as_torchs_does():
    # Odd small sizes keep a value for later; large draws in between do not touch it.
    shapes = [(3,), (17,), (2,), (1, 4, 4, 4), (5,), (1,), (40,)]
    generator = TorchGenerator(99)
    for shape, expected in zip(shapes, reference(99, *shapes), strict=True):
        np.testing.assert_allclose(generator.randn(shape), expected, rtol=0, atol=ATOL)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range(seed):
    with pytest.raises(InputError, match=r"0 <= seed < 2\*\*64"):
        TorchGenerator(seed)


def test_values_are_normal():
    values = TorchGenerator(0).randn((200_000,))
    assert abs(values.mean()) < 4 / math.sqrt(values.size)
    assert abs(values.var() - 1) < 4 * math.sqrt(2 / values.size)
