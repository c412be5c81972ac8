import math

import numpy as np
import pytest

from edgekd.benchmark.agreement import agreement, cosine, psnr_db
from edgekd.metrics.metric import Figure, Images, Pictures


def images(value: int) -> Images:
    return np.full((3, 2, 2, 3), value, np.uint8)


def test_psnr_of_a_known_difference() -> None:
    assert psnr_db(images(100), images(110)) == pytest.approx([10 * math.log10(255**2 / 100)] * 3)


def test_identical_pictures_have_the_ceiling_not_infinity() -> None:
    assert psnr_db(images(7), images(7)).tolist() == [100.0] * 3


def test_psnr_does_not_wrap_around_in_8_bits() -> None:
    assert psnr_db(images(0), images(255)) == pytest.approx([0.0] * 3)
    assert psnr_db(images(255), images(0)) == pytest.approx([0.0] * 3)


def test_cosine_of_zero_features_is_zero_not_nan() -> None:
    a = np.array([[1, 0], [0, 0], [1, 1]], np.float32)
    b = np.array([[2, 0], [1, 1], [-1, -1]], np.float32)
    assert cosine(a, b) == pytest.approx([1, 0, -1])


def test_metrics_with_a_value_for_each_picture_are_paired() -> None:
    """Paired values are far more certain than their means: the difference here has no error."""
    features = np.ones((3, 4), np.float32)
    pictures = Pictures(images(1), ("a", "b", "c"), features, np.zeros(3, np.float32))

    def figures(shift: float) -> dict[str, Figure | None]:
        score = Figure(value=30 + shift, samples=[shift + value for value in (10, 20, 60)])
        return {"score": score, "fd": Figure(value=1), "none": None}

    found = agreement((pictures, figures(1)), (pictures, figures(0)), "other")
    assert set(found.differences) == {"score"}
    assert (found.differences["score"].value, found.differences["score"].error) == (1, 0)
    assert (found.row, found.feature_cosine) == ("other", pytest.approx(1))
