import numpy as np
import pytest

from edgekd.benchmark.cache import Cache
from edgekd.benchmark.projection import (
    MAX_REFERENCE,
    REFERENCE,
    picture_projections,
    projections,
    shown_sets,
)


def gaussian(samples: int, seed: int, dimensions: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(samples, dimensions)).astype(np.float32)


def test_few_samples_have_pca_alone_in_the_basis_of_all():
    a, b = gaussian(6, 0), gaussian(9, 1)
    (found,) = projections({"a": a, "b": b}, seed=0)
    assert (found.method, found.seed, found.perplexity) == ("PCA", None, None)
    both = np.concatenate([a, b])
    values = np.linalg.eigvalsh(np.cov(both.T))[::-1]
    assert found.explained == pytest.approx(tuple(values[:2] / values.sum()), abs=6e-4)
    spread = np.concatenate([found.points["a"], found.points["b"]]).var(axis=0, ddof=1)
    assert spread == pytest.approx(values[:2], rel=1e-2)


def test_tsne_says_its_seed_and_perplexity(tmp_path):
    sets = {"real": gaussian(20, 2), "teacher": gaussian(20, 3)}
    cache = Cache(tmp_path)
    found = picture_projections(sets, gaussian(21, 4), 5, cache)
    assert [one.method for one in found] == ["t-SNE", "PCA"]
    assert (found[0].seed, found[0].perplexity) == (5, 20.0)
    assert {name: len(points) for name, points in found[1].points.items()} == {
        REFERENCE: 21,
        "real": 20,
        "teacher": 20,
    }
    kept = list(tmp_path.iterdir())
    assert picture_projections(sets, gaussian(21, 4), 5, cache) == found
    assert list(tmp_path.iterdir()) == kept


def test_points_of_large_and_small_features_are_rounded_alike():
    large, small = (projections({"a": gaussian(9, 6) * scale}, 0)[0] for scale in (1e3, 1e-3))
    np.testing.assert_allclose(
        np.array(large.points["a"]) / 1e3, np.array(small.points["a"]) * 1e3, atol=2e-3
    )


def test_the_headlines_student_is_shown_first_and_few_others():
    names = ["real", "teacher", "a", "b", "c", "d", "phone"]
    sets = dict.fromkeys(names[:-1], np.zeros((2, 2), np.float32))
    assert list(shown_sets(sets, "teacher", "c", names[2:])) == ["real", "teacher", "c", "a", "b"]
    assert list(shown_sets(sets, "teacher", None, [])) == ["real", "teacher"]
    assert MAX_REFERENCE < 1000
