from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekd.benchmark.cache import Cache
from edgekd.teach.data import WHITE, Corpus, Variant, render
from edgekd.teach.evaluation.copying import (
    Nearest,
    TrainingImages,
    own_label,
    own_pair,
    row_figures,
)
from edgekd.teach.evaluation.eye import Eye
from edgekd.teach.evaluation.prompts import Prompt


@pytest.fixture(scope="module")
def eye(tmp_path_factory: pytest.TempPathFactory) -> Eye:
    return Eye(Cache(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def training(corpus: Corpus, eye: Eye) -> TrainingImages:
    return TrainingImages.of(corpus.train, eye)


def test_copies_are_found(corpus: Corpus, training: TrainingImages, eye: Eye) -> None:
    near = training.nearest(training.images, eye)
    rows = np.arange(len(training.images))
    assert np.array_equal(near.feature_row, rows)
    assert np.array_equal(near.pixel_row, rows)
    assert near.feature.max() < 1e-5
    assert near.pixel.max() == 0
    prompts = [Prompt(subject, WHITE, False, 0) for subject in corpus.train]
    assert own_pair(near, training, prompts) == 1
    assert own_label(near, training, prompts) == 1


def test_held_out_images_are_farther_away(
    corpus: Corpus, training: TrainingImages, eye: Eye
) -> None:
    images = np.stack([render(s, Variant(WHITE), {}) for s in corpus.validation])
    natural = training.nearest(images, eye)
    copies = training.nearest(training.images, eye)
    assert natural.feature.min() > copies.feature.max()
    figures = row_figures(copies, natural, copies)
    assert figures["feature"]["below_held_out_p05"] == 1
    assert figures["feature"]["within_copies_p95"] > 0.9
    assert row_figures(natural, natural, copies)["feature"]["within_copies_p95"] == 0


def test_quantiles_of_a_row() -> None:
    values = np.linspace(0, 1, 101, dtype=np.float32)
    rows = np.zeros(101, np.intp)
    row = Nearest(values, rows, 100 * values, rows)
    figures = row_figures(row, row, row)
    assert figures["images"] == 101
    assert figures["feature"]["p05"] == pytest.approx(0.05)
    assert figures["pixel"]["p95"] == pytest.approx(95)


def test_large_images_are_compared_small(eye: Eye, tmp_path: Path, corpus: Corpus) -> None:
    import edgekd.teach.evaluation.copying as copying

    large = np.zeros((1, 256, 256, 3), np.uint8)
    assert copying._pixels(large).shape == (1, 64 * 64 * 3)
