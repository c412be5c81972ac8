import numpy as np
import pytest

from edgekd.errors import InputError
from edgekd.metrics.embeddings import linear_cka, pca, project_together, tsne


def gaussian(samples: int, dimensions: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(samples, dimensions))


def test_pca_finds_the_plane_that_holds_the_data():
    plane = gaussian(2, 10, 1)
    flat = gaussian(50, 2, 2) @ plane + 5
    result = pca(flat)
    assert result.explained.sum() == pytest.approx(1)
    assert result.explained[0] >= result.explained[1] > 0
    distances = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    projected = np.linalg.norm(result.points[:, None] - result.points[None], axis=-1)
    np.testing.assert_allclose(projected, distances, atol=1e-9)


def test_pca_sign_does_not_depend_on_row_order():
    x = gaussian(30, 6, 3)
    np.testing.assert_allclose(pca(x).points, pca(x[::-1]).points[::-1], atol=1e-9)


def test_tsne_separates_clusters_and_is_seeded():
    x = np.concatenate([gaussian(20, 80, 4), gaussian(20, 80, 5) + 4])
    points = tsne(x, seed=1)
    np.testing.assert_array_equal(points, tsne(x, seed=1))
    centres = points[:20].mean(axis=0), points[20:].mean(axis=0)
    spread = max(points[:20].std(), points[20:].std())
    assert np.linalg.norm(centres[0] - centres[1]) > 3 * spread


def test_tsne_of_very_few_samples():
    assert tsne(gaussian(5, 3)).shape == (5, 2)
    with pytest.raises(InputError, match="at least 5"):
        tsne(gaussian(4, 3))


def test_sets_are_projected_together():
    a, b = gaussian(6, 4, 6), gaussian(9, 4, 7)
    result = project_together({"a": a, "b": b}, lambda x: pca(x).points)
    np.testing.assert_array_equal(
        np.concatenate([result["a"], result["b"]]), pca(np.concatenate([a, b])).points
    )


def test_cka_ignores_rotation_scale_and_shift_only():
    x = gaussian(40, 12, 8)
    rotation, _ = np.linalg.qr(gaussian(12, 12, 9))
    assert linear_cka(x, 3 * x @ rotation + 7) == pytest.approx(1)
    assert linear_cka(x, gaussian(40, 5, 10)) < 0.5
    # The definition, on feature-space matrices.
    y = np.concatenate([x[:, :3], gaussian(40, 4, 11)], axis=1)
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    norm = np.linalg.norm
    expected = norm(b.T @ a) ** 2 / (norm(a.T @ a) * norm(b.T @ b))
    assert linear_cka(x, y) == pytest.approx(expected)


def test_bad_activations_are_refused():
    with pytest.raises(InputError, match="same inputs"):
        linear_cka(gaussian(4, 2), gaussian(5, 2))
    with pytest.raises(InputError, match="vary"):
        linear_cka(np.ones((4, 2)), gaussian(4, 2))
    with pytest.raises(InputError, match="finite"):
        pca(np.full((3, 3), np.nan))
