"""The cache of latents and features: content, order, resume."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekd.progress import Silent
from edgekd.teach import cache as teach_cache
from edgekd.teach.cache import CacheFolder, build_cache
from edgekd.teach.data import Corpus, Subject, cached_variant, render, to_batch
from edgekd.teach.ranks import Ranks
from edgekd.teach.recipe import load_teach_recipe
from edgekd.teach.setup import TeachSetup

RECIPE = load_teach_recipe(Path(__file__).parents[2] / "tiny-teacher.yaml")
COUNT = 10


@pytest.fixture
def corpus(monkeypatch):
    monkeypatch.setattr(teach_cache, "CHUNK_SUBJECTS", 4)
    rng = np.random.default_rng(0)
    subjects = [
        Subject(rng.integers(0, 256, (16, 16, 4), np.uint8), str(n), "", (), True, "train")
        for n in range(COUNT)
    ]
    return Corpus(subjects, subjects[:1], "corpus")


class Encoder:
    """Mean colours; counts its calls, and dies at one of them."""

    def __init__(self, dies_at=-1):
        self.calls, self.dies_at = 0, dies_at

    def __call__(self, images):
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        self.calls += 1
        return images.mean(dim=(2, 3))


def build(folder, corpus, encoder, key="key", ranks=Ranks()):  # noqa: B008
    setup = TeachSetup(RECIPE, corpus, torch.device("cpu"))
    return build_cache(CacheFolder(folder / "mean", key), setup, encoder, ranks, Silent())


def test_content_and_order(tmp_path, corpus):
    cached = build(tmp_path, corpus, Encoder())
    assert cached.shape == (COUNT, 2, 3)
    assert isinstance(cached, np.memmap)
    augment = RECIPE.data.augment
    for index, number in ((0, 0), (5, 1), (9, 1)):
        subject = corpus.train[index]
        variant = cached_variant(subject, augment, RECIPE.seed, index, number)
        image = render(subject, variant, augment.backgrounds)
        expected = to_batch([image]).mean(dim=(2, 3)).numpy()[0]
        assert np.allclose(cached[index, number], expected, atol=1e-3)  # fp16


def test_resume_keeps_finished_chunks(tmp_path, corpus):
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, corpus, Encoder(dies_at=6))
    again = Encoder()
    resumed = build(tmp_path, corpus, again)
    assert again.calls == COUNT - 4
    assert np.array_equal(resumed, build(tmp_path / "other", corpus, Encoder()))
    assert [path.name for path in tmp_path.iterdir() if path.name != "other"] == ["mean"]


def test_same_key_computes_nothing_and_another_key_all(tmp_path, corpus):
    build(tmp_path, corpus, Encoder())
    idle, busy = Encoder(), Encoder()
    build(tmp_path, corpus, idle)
    build(tmp_path, corpus, busy, key="other")
    assert (idle.calls, busy.calls) == (0, COUNT)


def test_each_rank_encodes_its_own_chunks(tmp_path, corpus, monkeypatch):
    monkeypatch.setattr(Ranks, "wait", lambda self: None)
    second = Encoder()
    with pytest.raises(FileNotFoundError):
        # Rank 1 makes the middle chunk of three; the others are not there yet.
        build(tmp_path, corpus, second, ranks=Ranks(1, 2))
    first = Encoder()
    shared = build(tmp_path, corpus, first, ranks=Ranks(0, 2))
    assert (first.calls, second.calls) == (6, 4)
    assert np.array_equal(shared, build(tmp_path / "other", corpus, Encoder()))
