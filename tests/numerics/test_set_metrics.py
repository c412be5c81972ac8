"""Precision, recall, density, coverage, CMMD and SSIM against formulas and other packages."""

import numpy as np
import pytest
import torch
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

from edgekd.benchmark.agreement import ssim
from edgekd.errors import InputError
from edgekd.libraries import transformers
from edgekd.metrics import bootstrap
from edgekd.metrics import cmmd as cmmd_metric
from edgekd.metrics.bootstrap import mean_interval, mmd_influences
from edgekd.metrics.cmmd import cmmd
from edgekd.metrics.kid import kernel, squared_mmd
from edgekd.metrics.manifold import manifolds

# torch-fidelity needs a torchvision that may only import once the guard above ran.
assert transformers.__version__
from torch_fidelity.metric_prc import prc_features_to_metric  # noqa: E402


def normal(samples: int, dimensions: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(samples, dimensions)) + shift


def test_precision_and_recall_equal_torch_fidelity():
    """More than one block of rows, and sets that overlap in part."""
    a, b = 0.8 * normal(620, 6, 1, 0.3), normal(540, 6, 2)
    expected = prc_features_to_metric(
        torch.from_numpy(a), torch.from_numpy(b), prc_neighborhood=3, verbose=False
    )
    found = manifolds(a, b)
    assert found.precision == pytest.approx(expected["precision"], abs=1e-6)
    assert found.recall == pytest.approx(expected["recall"], abs=1e-6)
    assert 0.2 < found.recall < found.precision < 0.98


def test_density_and_coverage_equal_scikit_learns_neighbours():
    """Naeem et al., equations 4 and 5: balls around real images, out to their fifth neighbour."""
    pictures, real = 0.8 * normal(620, 6, 1, 0.3), normal(540, 6, 2)
    # The nearest neighbour of a sample among its own is the sample itself.
    radius = NearestNeighbors(n_neighbors=6).fit(real).kneighbors(real)[0][:, -1]
    distances = pairwise_distances(real, pictures)
    inside = distances < radius[:, None]
    found = manifolds(pictures, real)
    assert found.density == pytest.approx(inside.sum() / (5 * 620), abs=1e-12)
    assert found.coverage == pytest.approx(inside.any(axis=1).mean(), abs=1e-12)
    assert 0.5 < found.coverage < 0.99


def test_density_and_coverage_of_points_on_a_line():
    """Real images at 0, 1, … 9: their balls reach to the fifth neighbour, without it."""
    real = np.arange(10.0)[:, None]
    # The radii are 5, 4, 3, 3, 3 and the same from the other end.
    inside = [
        abs(4.5 - x) < r for x, r in zip(range(10), (5, 4, 3, 3, 3, 3, 3, 3, 4, 5), strict=True)
    ]
    found = manifolds(np.array([[4.5], [100.0]]), real)
    assert found.density == pytest.approx(sum(inside) / (5 * 2))
    assert found.coverage == pytest.approx(sum(inside) / 10)
    assert (found.precision, found.recall) == (0.5, 1.0)


def test_real_images_have_a_density_of_about_1():
    found = manifolds(normal(800, 5, 1), normal(800, 5, 2))
    assert found.density == pytest.approx(1, abs=0.08)
    # Naeem et al.'s expectation for equal numbers: 1 - 1/2^k.
    assert found.coverage == pytest.approx(1 - 2**-5, abs=0.03)


def test_far_pictures_and_one_picture_over_and_over():
    real = normal(60, 4, 1)
    assert manifolds(real + 1000, real) == (0, 0, 0, 0)
    same = manifolds(np.tile(real[:1], (60, 1)), real)
    assert same.precision == 1
    assert same.recall == pytest.approx(1 / 60)
    assert same.coverage < 0.4


def test_cmmd_equals_the_formula():
    a, b = (
        x / np.linalg.norm(x, axis=1, keepdims=True)
        for x in (normal(530, 8, 1), normal(40, 8, 2, 0.5))
    )

    def mean(u, v):
        distances = torch.cdist(
            torch.from_numpy(u), torch.from_numpy(v), compute_mode="donot_use_mm_for_euclid_dist"
        )
        return torch.exp(-(distances**2) / 200).mean()

    expected = 1000 * float(mean(a, a) + mean(b, b) - 2 * mean(a, b))
    assert cmmd(a, b) == pytest.approx(expected, rel=1e-9)
    assert cmmd(a, a) == pytest.approx(0, abs=1e-10)
    with pytest.raises(InputError, match="dimensions"):
        cmmd(a, b[:, :4])


def test_influences_on_mmd_spread_as_other_pictures_would():
    reference = normal(500, 6, 0)
    values = [squared_mmd(normal(60, 6, seed, 0.6), reference) for seed in range(1, 81)]
    influences = [
        mmd_influences(normal(60, 6, seed, 0.6), reference, kernel) for seed in range(1, 9)
    ]
    errors = [np.std(each) / 60**0.5 for each in influences]
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.25)


def test_influences_do_not_depend_on_blocks(monkeypatch):
    a, b = normal(50, 4, 1), normal(30, 4, 2)
    whole = mmd_influences(a, b, cmmd_metric.kernel)
    monkeypatch.setattr(bootstrap, "_BLOCK", 7)
    np.testing.assert_allclose(mmd_influences(a, b, cmmd_metric.kernel), whole, atol=1e-15)


def test_interval_of_a_mean_is_two_standard_errors_wide():
    values = normal(400, 1, 0)[:, 0]
    low, high = mean_interval(values, seed=1)
    error = values.std() / 20
    assert (low, high) == (
        pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error),
        pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error),
    )
    assert mean_interval(values, seed=1) == (low, high) != mean_interval(values, seed=2)


@pytest.mark.parametrize("noise", [3, 60])
def test_ssim_equals_torchmetrics(noise):
    from torchmetrics.functional.image import structural_similarity_index_measure as reference

    generator = np.random.default_rng(noise)
    a = generator.integers(0, 256, (6, 8, 3)).repeat(8, axis=0).repeat(6, axis=1)
    b = np.clip(a + generator.normal(0, noise, a.shape), 0, 255)
    a, b = a.astype(np.uint8), b.astype(np.uint8)
    tensors = [torch.from_numpy(x).permute(2, 0, 1)[None].double() for x in (a, b)]
    assert ssim(a, b) == pytest.approx(float(reference(*tensors, data_range=255.0)), abs=1e-6)
