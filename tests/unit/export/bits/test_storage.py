import numpy as np
import pytest

from edgekd.errors import GateError
from edgekd.export.bits.storage import LinearStorage, linear_codes

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(5, 7, 3, 3)).astype(np.float32)
STORAGE = LinearStorage({"conv": (8, 6, 4), "linear": (8,)})


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_codes_are_symmetric_and_within_half_a_step(bits):
    codes, scale = linear_codes(WEIGHT, bits)
    largest = 2 ** (bits - 1) - 1
    assert np.abs(codes).max(axis=(1, 2, 3)).tolist() == [largest] * 5
    assert (np.abs(codes * scale - WEIGHT) <= scale / 2 * (1 + 1e-5)).all()


def test_transposed_weight_has_transposed_codes():
    matrix = WEIGHT.reshape(5, -1)
    codes, scale = linear_codes(matrix.T.copy(), 6, axis=1)
    expected, expected_scale = linear_codes(matrix, 6, axis=0)
    np.testing.assert_array_equal(codes.T, expected)
    np.testing.assert_array_equal(scale.T, expected_scale)


def test_each_bit_less_is_four_times_the_noise():
    # The step doubles, and an error evenly spread over a step of size s has the power s^2/12.
    noise = [float(np.mean((STORAGE.rounded(WEIGHT, bits) - WEIGHT) ** 2)) for bits in (8, 7, 6, 5)]
    ratios = np.array(noise[1:]) / noise[:-1]
    np.testing.assert_allclose(ratios, 4, rtol=0.25)  # 315 weights: a sample


def test_channel_of_zeros_stays_zero():
    weight = WEIGHT.copy()
    weight[2] = 0
    assert not STORAGE.rounded(weight, 4)[2].any()


def test_weight_that_is_not_finite_fails():
    weight = WEIGHT.copy()
    weight[0, 0, 0, 0] = np.nan
    with pytest.raises(GateError, match="weights must be finite, but got NaN or infinity in `w`"):
        linear_codes(weight, 8, name="w")


def test_sizes_and_choices():
    assert STORAGE.stored_bytes((8, 4, 3, 3), 6) == 8 * 36 * 6 // 8 + 8 * 4
    assert STORAGE.stored_bytes((8, 4, 3, 3), None) == 8 * 36 * 4
    assert STORAGE.choices("conv", (32, 32, 1, 1)) == (8, 6, 4)
    assert STORAGE.choices("linear", (32, 32)) == (8,)
    assert STORAGE.choices("embedding", (32, 32)) == ()
    assert STORAGE.choices("conv", (32, 31, 1, 1)) == ()
