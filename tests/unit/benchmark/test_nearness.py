import numpy as np
import pytest

from edgekd.benchmark.nearness import fitting_neighbours, nearness, picture_nearness


def gaussian(samples: int, dimensions: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(samples, dimensions)).astype(np.float32)


def test_equal_sets_are_told_from_chance():
    x = gaussian(48, 5, 0)
    found = nearness(x, 2 * x + 1)
    assert (found.cka, found.knn_overlap, found.procrustes) == (1, 1, 0)
    assert found.chance.cka < 0.3
    assert found.chance.knn_overlap == pytest.approx(8 / 47, abs=0.06)
    assert found.chance.procrustes > 0.7


def test_few_inputs_of_many_dimensions_look_alike_by_chance():
    """What the figures beside are for: here they are as high for two sets of noise."""
    found = nearness(gaussian(24, 2000, 1), gaussian(24, 2000, 2))
    assert found.cka > 0.9
    assert found.cka == pytest.approx(found.chance.cka, abs=0.01)
    assert found.procrustes == pytest.approx(found.chance.procrustes, abs=0.01)


def test_neighbours_fit_few_inputs():
    assert [fitting_neighbours(n) for n in (2, 6, 24, 64, 1000)] == [1, 1, 4, 10, 10]


def test_rows_are_held_against_the_teachers_and_those_without_variety_are_left_out():
    teacher = gaussian(12, 4, 3)
    sets = {"teacher": teacher, "twin": teacher, "other": gaussian(12, 4, 4)}
    found = picture_nearness({**sets, "one picture": np.ones((12, 4), np.float32)}, "teacher")
    assert list(found) == ["twin", "other"]
    assert found["twin"].cka == 1 > found["other"].cka
    assert picture_nearness({"twin": teacher}, "teacher") == {}
