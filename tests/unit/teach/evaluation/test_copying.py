from dataclasses import replace

import numpy as np
import pytest

from edgekd.teach.data import WHITE
from edgekd.teach.evaluation.copying import (
    Nearest,
    TrainingImages,
    flat_pixels,
    on_white,
    own_share,
    row_figures,
)
from edgekd.teach.evaluation.extractor import ImageExtractor
from edgekd.teach.evaluation.prompts import Prompt


@pytest.fixture(scope="module")
def training(corpus, cache) -> TrainingImages:
    return TrainingImages.of(corpus.train, ImageExtractor(cache))


def test_copies_are_found(corpus, training):
    near = training.nearest(training.images)
    rows = np.arange(len(training.images))
    assert np.array_equal(near.feature_row, rows)
    assert np.array_equal(near.pixel_row, rows)
    assert near.feature.max() < 1e-5
    assert near.pixel.max() == 0
    prompts = [Prompt(subject, WHITE, False, 0) for subject in corpus.train]
    assert own_share(near, training, prompts, "label", "style") == 1
    turned = [replace(p, subject=replace(p.subject, style="other")) for p in prompts]
    assert own_share(near, training, turned, "label", "style") == 0
    assert own_share(near, training, turned, "label") == 1


def test_held_out_images_are_farther_away(corpus, training):
    natural = training.nearest(on_white(corpus.validation))
    copies = training.nearest(training.images)
    assert natural.feature.min() > copies.feature.max()
    figures = row_figures(copies, natural, copies)
    assert figures.feature.below_held_out_p05 == 1
    assert figures.feature.within_copies_p95 > 0.9
    assert row_figures(natural, natural, copies).feature.within_copies_p95 == 0


def test_quantiles_of_a_row():
    values = np.linspace(0, 1, 101, dtype=np.float32)
    rows = np.zeros(101, np.intp)
    row = Nearest(values, rows, 100 * values, rows)
    figures = row_figures(row, row, row)
    assert figures.images == 101
    assert figures.feature.p05 == pytest.approx(0.05)
    assert figures.pixel.p95 == pytest.approx(95)


def test_large_images_are_compared_small():
    large = np.zeros((1, 256, 256, 3), np.uint8)
    assert flat_pixels(large).shape == (1, 64 * 64 * 3)
