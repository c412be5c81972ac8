"""Intervals and extrapolation of FD against derivatives and repeated draws."""

import numpy as np
import pytest
import torch
from scipy import stats

from edgekd.libraries import transformers
from edgekd.metrics.fd_infinity import METRIC, fd_infinity
from edgekd.metrics.fid import fd, fd_figure, fd_influences, frechet_distance, gaussian
from edgekd.metrics.metric import Measurements, Pictures, Reference

# torch-fidelity needs a torchvision that may only import once the guard above ran.
assert transformers.__version__
from torch_fidelity.metric_fid import (  # noqa: E402
    fid_features_to_statistics,
    fid_statistics_to_metric,
)

MIXING = np.random.default_rng(99).normal(size=(64, 64)) / 8


def features(samples: int, dimensions: int, seed: int, shift: float = 0.0) -> np.ndarray:
    normal = np.random.default_rng(seed).normal(size=(samples, dimensions))
    return normal @ MIXING[:dimensions, :dimensions] * 3 + shift


def weighted_distance(x: np.ndarray, weights: np.ndarray, b: np.ndarray) -> float:
    """The distance of a set whose samples count by their weights, sum 1."""
    mean = weights @ x
    centred = x - mean
    covariance = (weights[:, None] * centred).T @ centred * len(x) / (len(x) - 1)
    return frechet_distance(mean, covariance, b.mean(axis=0), np.cov(b, rowvar=False))


@pytest.mark.parametrize("samples", [80, 12], ids=["full rank", "fewer than dimensions"])
def test_influences_are_derivatives_by_the_weights(samples):
    a, b = features(samples, 16, 1), features(60, 16, 2, shift=0.4)
    value, influences = fd_influences(a, gaussian(b))
    assert value == pytest.approx(fd(a, b), rel=1e-9)
    assert influences.mean() == pytest.approx(0, abs=1e-9)
    step = 1e-4
    for place in (0, 5):
        weights = np.full(samples, 1 / samples)
        towards = (np.arange(samples) == place) - weights
        sides = [weighted_distance(a, weights + sign * step * towards, b) for sign in (1, -1)]
        slope = (sides[0] - sides[1]) / (2 * step)
        assert influences[place] == pytest.approx(slope, rel=1e-4)


def test_intervals_hold_what_other_pictures_would_give():
    """95 of 100 sets of other pictures; 150 draws leave ±3.6 points at two standard errors."""
    reference = gaussian(features(400, 6, 0))
    figures = [fd_figure(features(120, 6, seed, 0.3), reference, seed) for seed in range(1, 151)]
    usual = np.mean([figure.value for figure in figures])
    assert np.mean([figure.low <= usual <= figure.high for figure in figures]) > 0.88
    assert np.mean([figure.high - figure.low for figure in figures]) < usual


def test_extrapolation_removes_the_bias_by_the_number_of_pictures():
    reference = gaussian(features(20_000, 32, 0))
    few = features(800, 32, 1, shift=0.1)
    many = fd_infinity(features(20_000, 32, 2, shift=0.1), reference, seed=0)
    biased = fd_figure(few, reference, seed=0).value
    assert biased - many > 0.2
    assert abs(fd_infinity(few, reference, seed=0) - many) < 0.25 * (biased - many)


def test_an_extrapolation_is_scipys_line_through_torch_fidelitys_distances():
    """Over the parts of one order that the seed draws, however the rows come."""
    x, real = features(400, 6, 1, shift=0.2), features(300, 6, 0)
    found = fd_infinity(x, gaussian(real), seed=3)
    shuffled = np.random.default_rng(8).permutation(x)
    assert fd_infinity(shuffled, gaussian(real), seed=3) == pytest.approx(found, rel=1e-9)
    drawn = x[np.argsort(x[:, 3])][np.random.default_rng(3).permutation(400)]
    real_figures = fid_features_to_statistics(torch.from_numpy(real))
    means = []
    for parts in (1, 2, 4):
        cut = [fid_features_to_statistics(torch.from_numpy(one)) for one in np.split(drawn, parts)]
        distances = [fid_statistics_to_metric(one, real_figures, verbose=False) for one in cut]
        means.append(np.mean([one["frechet_inception_distance"] for one in distances]))
    line = stats.linregress([1 / 400, 1 / 200, 1 / 100], means)
    assert found == pytest.approx(line.intercept, rel=1e-6)


def test_an_extrapolation_needs_hundreds_of_pictures():
    def figure(count):
        rows = features(count, 8, 1).astype(np.float32)
        pictures = Pictures(rows, ("",) * count, rows, rows[:, 0])
        return METRIC.measure(Measurements(Reference(rows, "e", "s", 1, 2, 0), pictures))

    assert figure(399) is None
    assert figure(400).value == pytest.approx(0, abs=0.2)
