from dataclasses import replace

import numpy as np
import pytest

from edgekd.benchmark.cache import Cache
from edgekd.teach.evaluation.probes import Probes, border_color, color_histogram, fit_probes
from edgekd.teach.evaluation.prompts import known_set


@pytest.fixture(scope="module")
def probes(corpus, recipe, cache) -> Probes:
    return fit_probes(corpus, recipe, cache)[0]


def test_ceilings_are_those_of_held_out_images(corpus, recipe, cache):
    _, ceilings = fit_probes(corpus, recipe, cache)
    assert ceilings.images == 2 * len(corpus.validation)
    # Few images to learn two styles from, far from chance all the same; colours are easy.
    assert 0.7 < ceilings.style.accuracy < 1
    assert ceilings.background.accuracy > 0.9
    assert set(ceilings.style.by) == {"solid", "outline"}


def test_pictures_of_the_other_style_are_wrong(probes, corpus, recipe):
    chosen = known_set(corpus, recipe)
    images = chosen.real_images(recipe)
    accuracy = probes.style_figures(images, chosen.prompts).accuracy
    assert accuracy > 0.7
    swapped = {"solid": "outline", "outline": "solid"}
    wrong = [
        replace(p, subject=replace(p.subject, style=swapped[p.subject.style]))
        for p in chosen.prompts
    ]
    # Of two styles a picture shows one.
    assert probes.style_figures(images, wrong).accuracy == pytest.approx(1 - accuracy)


def test_background_accuracy_counts_named_backgrounds_only(probes, corpus, recipe):
    chosen = known_set(corpus, recipe)
    white = np.full((len(chosen.prompts), 32, 32, 3), 255, np.uint8)
    figures = probes.background_figures(white, chosen.prompts)
    named = [p for p in chosen.prompts if p.named]
    expected = sum(p.background == "white" for p in named) / len(named)
    assert figures.accuracy == pytest.approx(expected)
    assert figures.prompts == len(named)
    assert figures.unnamed_accuracy == 1.0
    assert figures.unnamed_prompts == len(chosen.prompts) - len(named)
    silent = [p for p in chosen.prompts if not p.named]
    assert probes.background_figures(white[: len(silent)], silent).accuracy is None


def test_histogram_and_border():
    images = np.zeros((1, 8, 8, 3), np.uint8)
    images[0, 2:6, 2:6] = 255
    histogram = color_histogram(images)
    assert histogram.shape == (1, 1728)
    assert histogram[0, 0] ** 2 == pytest.approx(0.75)
    assert histogram[0, -1] ** 2 == pytest.approx(0.25)
    assert border_color(images).tolist() == [[0, 0, 0]]


def test_features_are_kept(corpus, recipe, tmp_path):
    fit_probes(corpus, recipe, Cache(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    fit_probes(corpus, recipe, Cache(tmp_path))
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
