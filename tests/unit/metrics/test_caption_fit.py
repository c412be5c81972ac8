import numpy as np
import pytest
import torch
from torchmetrics.functional.retrieval import retrieval_hit_rate

from edgekd.errors import InputError
from edgekd.metrics.caption_fit import clip_score, halves, normalise, retrieval, side_by_side


def unit(rows: list[list[float]]) -> np.ndarray:
    return normalise(np.array(rows))


def shares(*arguments) -> tuple[float, float]:
    hits = retrieval(*arguments)
    return hits["r1"].mean(), hits["r5"].mean()


def test_score_is_a_hundred_times_the_positive_cosine():
    images = unit([[1, 0], [1, 1], [1, 0]])
    texts = unit([[1, 0], [1, 0], [-1, 0]])
    np.testing.assert_allclose(clip_score(images, texts), [100, 100 / 2**0.5, 0], rtol=1e-6)


def test_retrieval_counts_ranks():
    texts = np.eye(8, dtype=np.float32)
    # Image i fits caption i best, except image 7, for which six others are better.
    images = np.eye(8, dtype=np.float32)
    images[7] = unit([[3, 3, 3, 3, 3, 3, 0, 1]])[0]
    assert shares(images, texts) == (7 / 8, 7 / 8)
    images[7] = unit([[3, 3, 3, 3, 0, 0, 0, 1]])[0]
    assert shares(images, texts) == (7 / 8, 1.0)


def test_an_encoder_that_sees_nothing_retrieves_by_chance():
    same = np.tile(unit([[1, 2, 3]]), (10, 1))
    assert shares(same, same) == (pytest.approx(0.1), pytest.approx(0.5))


def test_equal_captions_share_their_places():
    texts = unit([[1, 0], [1, 0], [0, 1]])
    assert shares(texts, texts)[0] == pytest.approx((0.5 + 0.5 + 1) / 3)


def test_a_caption_that_is_given_twice_is_one_to_choose():
    texts = unit([[1, 0], [1, 0], [0, 1]])
    assert shares(texts, texts, ("a", "a", "b")) == (1, 1)
    assert shares(texts[::-1], texts, ("a", "a", "b"))[0] == pytest.approx(1 / 3)


def test_long_lists_are_compared_block_by_block():
    texts = unit(np.random.default_rng(0).normal(size=(1100, 8)))
    assert shares(texts, texts) == (1, 1)
    swapped = np.concatenate([texts[1:], texts[:1]])
    assert shares(swapped, texts)[0] == 0


def test_halves_of_what_was_put_side_by_side():
    images, texts = unit([[1, 0], [1, 1]]), unit([[0, 1], [1, 0]])
    for found, put in zip(halves(side_by_side(images, texts)), (images, texts), strict=True):
        np.testing.assert_array_equal(found, put)


def test_pairs_must_match_and_be_finite():
    with pytest.raises(InputError, match="2 and 1"):
        clip_score(np.eye(2, dtype=np.float32), np.eye(1, 2, dtype=np.float32))
    with pytest.raises(InputError, match="finite"):
        retrieval(np.eye(2, dtype=np.float32), np.full((2, 2), np.nan, np.float32))


def test_retrieval_equals_torchmetrics():
    """Each image is a query over all captions, of which its own is relevant."""
    generator = np.random.default_rng(3)
    texts = normalise(generator.normal(size=(60, 8)))
    images = normalise(texts + generator.normal(size=(60, 8)) * 0.5)
    hits = retrieval(images, texts)
    for name, k in (("r1", 1), ("r5", 5)):
        expected = [
            float(retrieval_hit_rate(torch.from_numpy(scores), torch.arange(60) == i, top_k=k))
            for i, scores in enumerate(images @ texts.T)
        ]
        np.testing.assert_array_equal(hits[name], expected)
        assert 0.2 < np.mean(expected) < 0.98
