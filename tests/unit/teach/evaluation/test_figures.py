from types import SimpleNamespace

import numpy as np
import pytest

from edgekd.metrics.caption_fit import recall
from edgekd.teach.evaluation.extractor import ImageExtractor
from edgekd.teach.evaluation.figures import (
    MetricTools,
    label_hits,
    ratio,
    retrieval_figures,
    set_figures,
)
from edgekd.teach.evaluation.probes import fit_probes
from edgekd.teach.evaluation.prompts import held_out_set, known_set
from edgekd.teach.evaluation.sweep import choose
from edgekd.teach.evaluation.targets import target


@pytest.fixture(scope="module")
def tools(corpus, recipe, cache) -> MetricTools:
    return MetricTools(ImageExtractor(cache), fit_probes(corpus, recipe, cache)[0], recipe.evaluate)


def test_recall_by_hand():
    similarity = np.array([[0.9, 0.1, 0.0], [0.5, 0.4, 0.3], [0.2, 0.2, 0.2]], np.float32)
    own = np.array([0, 1, 2])
    assert recall(similarity, own)["r1"].tolist() == pytest.approx([1, 0, 1 / 3])
    assert recall(similarity, own)["r5"].tolist() == pytest.approx([1, 1, 1])


def test_noise_is_told_from_real_images(corpus, recipe, tools):
    chosen = known_set(corpus, recipe)
    real = chosen.real_images(recipe)
    noise = np.random.default_rng(0).integers(0, 256, real.shape, dtype=np.uint8)
    rows = {"generated": noise, "real": real, "autoencoder": real}
    figures = set_figures(rows, chosen, chosen.reference_images(recipe), tools)
    assert figures.rows.real == figures.rows.autoencoder
    assert figures.rows.generated.fd > 2 * figures.rows.real.fd
    assert figures.rows.generated.kid > figures.rows.real.kid
    assert figures.fd_over_autoencoder == figures.fd_over_real
    assert figures.prompts == figures.reference == 24
    assert figures.pairs <= 24
    assert figures.rows.generated.style.accuracy < 0.9


def test_perfect_copies_have_the_figures_of_real_images(corpus, recipe, tools):
    chosen = known_set(corpus, recipe)
    real = chosen.real_images(recipe)
    rows = dict.fromkeys(("generated", "real", "autoencoder"), real)
    figures = set_figures(rows, chosen, chosen.reference_images(recipe), tools)
    assert figures.fd_over_real == 1
    assert figures.r1_over_real in (1, None)


def test_real_images_are_no_ceiling_for_labels_that_the_scorer_does_not_know(corpus, recipe, tools):
    chosen = held_out_set(corpus, recipe, "new_label")
    rows = dict.fromkeys(("generated", "real", "autoencoder"), chosen.real_images(recipe))
    figures = set_figures(rows, chosen, chosen.reference_images(recipe), tools)
    assert figures.r1_over_real is figures.r5_over_real is None
    assert figures.fd_over_real == 1


def test_retrieval_depends_on_the_gallery_order_in_nothing(corpus, recipe, tools):
    chosen = known_set(corpus, recipe)
    seen = tools.extractor.extract(chosen.real_images(recipe))
    scorer = tools.extractor.scorer
    hits = label_hits(seen, chosen.prompts, chosen.gallery, scorer)
    turned = label_hits(seen, chosen.prompts, chosen.gallery[::-1], scorer)
    assert all(np.array_equal(hits[name], turned[name]) for name in hits)
    # Five of twelve labels by chance; the labels are plain words for shapes on which the
    # scorer was not trained.
    assert retrieval_figures(hits, chosen.prompts).r5 > 5 / 12


def test_guidance_is_chosen_by_fd_among_the_best_in_retrieval():
    def row(scale, r1, fd):
        retrieval = SimpleNamespace(r1=r1, r1_standard_error=0.05)
        return SimpleNamespace(guidance_scale=scale, fd=fd, retrieval=retrieval)

    rows = [row(1.5, 0.2, 10), row(3, 0.56, 20), row(4, 0.6, 25), row(8, 0.58, 40)]
    assert choose(rows) == 3
    assert choose([*rows, row(6, 0.9, 60)]) == 6


def test_ratio_and_targets():
    assert ratio(3, 2) == 1.5
    assert ratio(3, 0) is None
    assert target("a", 0.7, low=0.7).reached is True
    assert target("a", 2.1, high=2.0).reached is False
    assert target("a", None, low=1.0).reached is None
    assert target("a", 1.0, high=2.0, enough=False).reached is None
