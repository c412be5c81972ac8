import math

import numpy as np
import pytest

from edgekd.benchmark.quality import (
    Pictures,
    agreement,
    check_finite,
    cosine,
    measure_quality,
    metric_names,
    psnr_db,
    standard_error,
)
from edgekd.benchmark.suite import QualitySection
from edgekd.errors import GateError


class CountingJudge:
    """A judge whose figures can be told by hand."""

    extractor, scorer, key = "toy-r8", "toy", "k"

    def __init__(self) -> None:
        self.subset_size = 0

    def features(self, images):
        return images.reshape(len(images), -1).astype(np.float32)

    def scores(self, images, captions):
        return np.array([len(caption) for caption in captions], np.float32)

    def fd(self, generated, reference):
        return float(abs(generated.mean() - reference.mean()))

    def kid(self, generated, reference, subsets, subset_size, seed):
        self.subset_size = subset_size
        return 0.5, 0.25


def pictures(value: int, scores: list[float], count: int = 3) -> Pictures:
    images = np.full((count, 2, 2, 3), value, np.uint8)
    return Pictures(images, np.full((count, 4), value, np.float32), np.array(scores, np.float32))


def test_psnr_of_a_known_difference() -> None:
    a, b = pictures(100, [0] * 3).images, pictures(110, [0] * 3).images
    assert psnr_db(a, b) == pytest.approx([10 * math.log10(255**2 / 100)] * 3)


def test_identical_pictures_have_the_ceiling_not_infinity() -> None:
    a = pictures(7, [0] * 3).images
    assert psnr_db(a, a).tolist() == [100.0] * 3


def test_psnr_does_not_wrap_around_in_8_bits() -> None:
    black, white = pictures(0, [0] * 3).images, pictures(255, [0] * 3).images
    assert psnr_db(black, white) == pytest.approx([0.0] * 3)
    assert psnr_db(white, black) == pytest.approx([0.0] * 3)


def test_cosine_of_zero_features_is_zero_not_nan() -> None:
    a = np.array([[1, 0], [0, 0], [1, 1]], np.float32)
    b = np.array([[2, 0], [1, 1], [-1, -1]], np.float32)
    assert cosine(a, b) == pytest.approx([1, 0, -1])


def test_paired_scores_are_far_more_certain_than_their_means() -> None:
    scores = [10.0, 20.0, 60.0]
    alike = agreement(pictures(1, [s + 1 for s in scores]), pictures(1, scores))
    assert alike["score_difference"] == 1
    assert alike["score_difference_standard_error"] == 0
    assert standard_error(np.array(scores)) > 10


def test_kid_subsets_shrink_to_the_smaller_set() -> None:
    judge = CountingJudge()
    section = QualitySection(samples=64, kid_subset_size=32)
    figures = measure_quality(judge, pictures(9, [1, 2, 3]), np.zeros((20, 4), np.float32), section)
    assert judge.subset_size == 3
    assert figures["fd"] == 9
    assert figures["score"] == 2
    assert figures["score_standard_error"] == pytest.approx(1 / math.sqrt(3))


def test_metric_names_carry_extractor_resize_and_counts() -> None:
    names = metric_names(CountingJudge(), 64, 590, QualitySection(samples=64, kid_subset_size=32))
    assert names["fd"] == "FD-toy-r8-n64"
    assert "toy-r8-n64" in names["kid"]
    assert "32" in names["kid"]
    assert names["score"] == "score-toy-n64"


@pytest.mark.parametrize(
    "figures",
    [
        {"fd": float("nan")},
        {"kid": float("inf")},
        {"scores": [1.0, float("nan")]},
        {"to_teacher": {"row": "teacher", "psnr_db": float("nan")}},
    ],
    ids=str,
)
def test_a_metric_that_is_not_finite_fails_the_gate(figures) -> None:
    with pytest.raises(GateError, match="of `student`") as error:
        check_finite("student", figures)
    assert error.value.exit_code == 3


def test_missing_figures_are_not_failures() -> None:
    check_finite("student", {"latency_ms": None, "row": "teacher", "n": 3, "fd": 1.0})
