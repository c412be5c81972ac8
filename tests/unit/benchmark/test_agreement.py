import math

import numpy as np
import pytest

from edgekd.benchmark.agreement import agreement, cosine, pixel_agreement, psnr_db, ssim
from edgekd.metrics.metric import Figure, Images, Pictures


def images(value: int) -> Images:
    return np.full((3, 2, 2, 3), value, np.uint8)


def test_psnr_of_a_known_difference():
    found = pixel_agreement(images(100), images(110))
    assert found["psnr"] == pytest.approx([10 * math.log10(255**2 / 100)] * 3)


def test_identical_pictures_have_the_ceiling_not_infinity():
    found = pixel_agreement(images(7), images(7))
    assert found["psnr"].tolist() == [100.0] * 3
    assert found["ssim"] == pytest.approx([1.0] * 3)


def test_psnr_does_not_wrap_around_in_8_bits():
    black, white = images(0)[0], images(255)[0]
    assert psnr_db(black, white) == pytest.approx(0.0)
    assert psnr_db(white, black) == pytest.approx(0.0)


def test_ssim_of_even_pictures_is_that_of_their_brightness():
    """Without variance only the first factor is left."""
    a, b = np.full((16, 16, 3), 100, np.uint8), np.full((16, 16, 3), 150, np.uint8)
    constant = (0.01 * 255) ** 2
    expected = (2 * 100 * 150 + constant) / (100**2 + 150**2 + constant)
    assert ssim(a, b) == ssim(b, a) == pytest.approx(expected)


def test_ssim_of_a_picture_and_its_negative_is_below_0():
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    assert ssim(noise, noise) == pytest.approx(1)
    assert -1 <= ssim(noise, 255 - noise) < -0.8


@pytest.mark.parametrize("side", [32, 11, 10])
def test_ssim_needs_no_large_picture(side):
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    brighter = np.clip(noise.astype(int) + 20, 0, 255).astype(np.uint8)
    assert 0.8 < ssim(noise, brighter) < 1


def test_cosine_of_zero_features_is_zero_not_nan():
    a = np.array([[1, 0], [0, 0], [1, 1]], np.float32)
    b = np.array([[2, 0], [1, 1], [-1, -1]], np.float32)
    assert cosine(a, b) == pytest.approx([1, 0, -1])


def test_metrics_with_a_value_for_each_picture_are_paired():
    """Paired values are far more certain than their means: the difference here has no error."""
    features = np.ones((3, 4), np.float32)
    pictures = Pictures(images(1), ("a", "b", "c"), features, np.zeros(3, np.float32))

    def figures(shift):
        score = Figure(value=30 + shift, samples=[shift + value for value in (10, 20, 60)])
        return {"score": score, "fd": Figure(value=1), "none": None}

    pixels = pixel_agreement(pictures.images, pictures.images)
    found = agreement((pictures, figures(1)), (pictures, figures(0)), "other", pixels)
    assert set(found.differences) == {"score"}
    assert (found.differences["score"].value, found.differences["score"].error) == (1, 0)
    assert (found.row, found.feature_cosine) == ("other", pytest.approx(1))
