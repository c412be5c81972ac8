"""FD and KID against closed forms, scipy and torch-fidelity."""

import numpy as np
import pytest
import scipy.linalg

from edgekd.errors import InputError
from edgekd.libraries import transformers
from edgekd.metrics.fid import fd, frechet_distance, statistics
from edgekd.metrics.kid import kid

# torch-fidelity needs a torchvision that may only import once the guard above ran.
assert transformers.__version__
from torch_fidelity.metric_fid import fid_statistics_to_metric  # noqa: E402
from torch_fidelity.metric_kid import kid_features_to_metric  # noqa: E402


def features(samples: int, dimensions: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Correlated, non-negative features, as pooled activations are."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(dimensions, dimensions)) / dimensions**0.5
    return np.maximum(generator.normal(size=(samples, dimensions)) @ mixing + 0.3 + shift, 0)


def scipy_distance(mu1, sigma1, mu2, sigma2) -> float:
    """The formula as published, with a general matrix square root."""
    root = scipy.linalg.sqrtm(sigma1 @ sigma2).real
    return float((mu1 - mu2) @ (mu1 - mu2) + np.trace(sigma1 + sigma2 - 2 * root))


def torch_fidelity_distance(a, b) -> float:
    sides = [{"mu": s.mean, "sigma": s.covariance} for s in (statistics(a), statistics(b))]
    result = fid_statistics_to_metric(*sides, verbose=False)
    return float(next(iter(result.values())))


def test_closed_form_of_commuting_gaussians():
    # For diagonal covariances: sum of (mean difference² + (sd difference)²).
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))
    sd1, sd2 = np.array([1.0, 2, 3, 0.5, 0, 4]), np.array([2.0, 2, 1, 0, 0, 1])
    mu1, mu2 = np.zeros(6), np.array([1.0, 0, -2, 0, 0.5, 0])
    expected = 1 + 4 + 0.25 + ((sd1 - sd2) ** 2).sum()
    sigma1, sigma2 = (rotation @ np.diag(sd**2) @ rotation.T for sd in (sd1, sd2))
    # Zero variances leave square roots of rounding errors: about 1e-8.
    assert frechet_distance(mu1, sigma1, mu2, sigma2) == pytest.approx(expected, abs=1e-6)


def test_fd_equals_scipy_and_torch_fidelity_at_full_rank():
    a, b = features(400, 48, 1), features(300, 48, 2, shift=0.2)
    sa, sb = statistics(a), statistics(b)
    assert np.allclose(sa.covariance, np.cov(a, rowvar=False), atol=1e-12)
    ours = frechet_distance(sa.mean, sa.covariance, sb.mean, sb.covariance)
    reference = scipy_distance(sa.mean, sa.covariance, sb.mean, sb.covariance)
    assert ours == pytest.approx(reference, rel=1e-9)
    assert ours == pytest.approx(torch_fidelity_distance(a, b), rel=1e-9)
    assert fd(a, b) == pytest.approx(ours, rel=1e-9)


def test_fd_of_fewer_samples_than_dimensions():
    # Singular covariances: the samples' own route, the eigenvalue route and torch-fidelity's
    # (eigenvalues of the product, square roots of their rounding errors) agree.
    a, b = features(40, 128, 3), features(60, 128, 4, shift=0.1)
    sa, sb = statistics(a), statistics(b)
    ours = fd(a, b)
    by_covariance = frechet_distance(sa.mean, sa.covariance, sb.mean, sb.covariance)
    assert ours == pytest.approx(by_covariance, rel=1e-6)
    assert ours == pytest.approx(torch_fidelity_distance(a, b), rel=1e-4)


@pytest.mark.parametrize("samples", [20, 300])
def test_fd_of_a_set_with_itself_is_zero(samples):
    a = features(samples, 64, 5)
    scale = np.trace(statistics(a).covariance)
    assert fd(a, a) <= 1e-12 * scale
    assert fd(a, a[::-1]) <= 1e-12 * scale


def test_fd_grows_by_the_squared_shift():
    a = features(50, 32, 6)
    assert fd(a, a + 0.5) == pytest.approx(32 * 0.25, rel=1e-9)


def test_kid_equals_torch_fidelity_on_whole_sets():
    # With subsets as large as the sets both must give the same number, whatever they draw.
    import torch

    a, b = features(60, 32, 7), features(60, 32, 8, shift=0.3)
    reference = kid_features_to_metric(
        torch.from_numpy(a),
        torch.from_numpy(b),
        kid_subsets=2,
        kid_subset_size=60,
        kid_kernel="poly",
        kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1,
        rng_seed=0,
        verbose=False,
    )
    mean, std = kid(a, b, subsets=2, subset_size=60)
    values = list(reference.values())
    assert mean == pytest.approx(float(values[0]), rel=1e-9)
    assert std < 1e-12


def test_kid_is_unbiased():
    # Two samples of one distribution: the mean over many draws is 0 within its standard error.
    values = [kid(features(40, 8, s), features(40, 8, 1000 + s), 1, 40)[0] for s in range(200)]
    assert abs(np.mean(values)) < 4 * np.std(values) / len(values) ** 0.5
    assert min(values) < 0


def test_kid_is_seeded():
    a, b = features(80, 16, 9), features(80, 16, 10)
    assert kid(a, b, 5, 30, seed=1) == kid(a, b, 5, 30, seed=1)
    assert kid(a, b, 5, 30, seed=1) != kid(a, b, 5, 30, seed=2)


def test_bad_features_are_refused():
    good = features(10, 4, 11)
    bad = good.copy()
    bad[3, 2] = np.nan
    with pytest.raises(InputError, match="finite"):
        fd(good, bad)
    with pytest.raises(InputError, match="at least 2 samples"):
        fd(good, good[:1])
    with pytest.raises(InputError, match="4 and 3 dimensions"):
        fd(good, good[:, :3])
    with pytest.raises(InputError, match="at least 11 samples"):
        kid(good, good, 1, 11)
    with pytest.raises(InputError, match="finite"):
        frechet_distance(np.zeros(2), np.full((2, 2), np.inf), np.zeros(2), np.eye(2))
    with pytest.raises(InputError, match="one D"):
        frechet_distance(np.zeros(2), np.eye(3), np.zeros(2), np.eye(2))
