import numpy as np
import pytest

from edgekd.errors import InputError
from edgekd.metrics.embeddings import (
    knn_overlap,
    linear_cka,
    pca,
    procrustes,
    project_together,
    tsne,
    turned_onto,
)


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


def rotated(x: np.ndarray, seed: int = 0) -> np.ndarray:
    rotation, _ = np.linalg.qr(gaussian(x.shape[1], x.shape[1], seed))
    return 3 * x @ rotation + 7


@pytest.mark.parametrize("dimensions", [6, 90], ids=["narrow", "wider than inputs"])
def test_what_is_only_turned_shifted_and_scaled_is_the_same(dimensions):
    x = gaussian(30, dimensions, 12)
    y = rotated(x, 13)
    assert knn_overlap(x, y, 5) == 1
    assert procrustes(x, y) == pytest.approx(0, abs=1e-12)
    theirs, ours = turned_onto(x, y)
    np.testing.assert_allclose(theirs, ours, atol=1e-9)


def test_sets_without_anything_in_common_share_what_chance_gives():
    n, k = 400, 10
    found = knn_overlap(gaussian(n, 8, 14), gaussian(n, 8, 15), k)
    # n k pairs that each are shared with probability k / (n - 1).
    chance = k / (n - 1)
    assert found == pytest.approx(chance, abs=5 * (chance / (n * k)) ** 0.5)
    assert procrustes(gaussian(n, 8, 14), gaussian(n, 8, 15)) > 0.95


def test_neighbours_of_points_on_a_line():
    x = np.array([[0.0], [1.0], [3.0], [7.0]])
    y = np.array([[0.0], [1.0], [3.0], [3.9]])
    # The nearest is 1, 0, 1, 2 in one, and 1, 0, 3, 2 in the other.
    assert knn_overlap(x, y, 1) == 0.75
    assert knn_overlap(x, y, 3) == 1


def test_likeness_as_outside_references_have_it():
    from scipy.spatial import procrustes as reference
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestNeighbors

    x = gaussian(40, 7, 16)
    y = x @ gaussian(7, 7, 17) + 0.5 * gaussian(40, 7, 18)
    theirs, ours, disparity = reference(x, y)
    assert procrustes(x, y) == pytest.approx(disparity, rel=1e-9)
    for found, expected in zip(turned_onto(x, y), (theirs, ours), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-9)
    near = [
        NearestNeighbors(n_neighbors=5).fit(z).kneighbors(return_distance=False) for z in (x, y)
    ]
    shared = [len(set(a) & set(b)) / 5 for a, b in zip(*near, strict=True)]
    assert knn_overlap(x, y, 5) == pytest.approx(np.mean(shared))
    fitted = PCA(2).fit(x)
    found = pca(x)
    np.testing.assert_allclose(np.abs(found.points), np.abs(fitted.transform(x)), atol=1e-9)
    np.testing.assert_allclose(found.explained, fitted.explained_variance_ratio_)


def test_a_narrower_set_counts_as_padded_with_zeros():
    from scipy.spatial import procrustes as reference

    x, y = gaussian(30, 9, 19), gaussian(30, 4, 20)
    disparity = reference(x, np.pad(y, ((0, 0), (0, 5))))[2]
    assert procrustes(x, y) == procrustes(y, x) == pytest.approx(disparity, rel=1e-9)
    theirs, ours = turned_onto(x, y)
    assert ((theirs - ours) ** 2).sum() == pytest.approx(disparity, rel=1e-9)


def test_bad_activations_are_refused():
    with pytest.raises(InputError, match="same inputs"):
        linear_cka(gaussian(4, 2), gaussian(5, 2))
    with pytest.raises(InputError, match="vary"):
        linear_cka(np.ones((4, 2)), gaussian(4, 2))
    with pytest.raises(InputError, match="finite"):
        pca(np.full((3, 3), np.nan))
    with pytest.raises(InputError, match="vary"):
        procrustes(gaussian(4, 2), np.ones((4, 2)))
    with pytest.raises(InputError, match="same inputs"):
        procrustes(gaussian(4, 2), gaussian(5, 2))
    for neighbours in (0, 4):
        with pytest.raises(InputError, match="neighbours < N"):
            knn_overlap(gaussian(4, 2), gaussian(4, 2), neighbours)
