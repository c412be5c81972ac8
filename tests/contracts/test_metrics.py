"""What every metric keeps to, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from edgekd.data.images import open_image, to_rgb
from edgekd.data.records import iter_records
from edgekd.metrics.clip_score import Scorer, retrieval
from edgekd.metrics.features import FeatureExtractor
from edgekd.metrics.fid import fd, kid
from edgekd.recipe import SourcesSection

COUNT = 48


@dataclass(frozen=True)
class Sample:
    image: np.ndarray
    caption: str


Samples = Sequence[Sample]


def images(samples: Samples) -> np.ndarray:
    return np.stack([sample.image for sample in samples])


@dataclass(frozen=True)
class Judges:
    extract: FeatureExtractor
    scorer: Scorer

    @classmethod
    def make(cls, batch_size: int) -> Judges:
        extract = FeatureExtractor(batch_size=batch_size, threads=1)
        return cls(extract, Scorer(extractor=extract, threads=1))


def frechet(judges: Judges, samples: Samples, reference: Samples) -> float:
    return fd(judges.extract(images(samples)), judges.extract(images(reference)))


def kernel(judges: Judges, samples: Samples, reference: Samples) -> float:
    a, b = judges.extract(images(samples)), judges.extract(images(reference))
    return kid(a, b, subsets=1, subset_size=len(samples))[0]


def score(judges: Judges, samples: Samples, reference: Samples) -> float:
    del reference
    return -float(judges.scorer.score(images(samples), [s.caption for s in samples]).mean())


def misses(judges: Judges, samples: Samples, reference: Samples, rank: str) -> float:
    del reference
    texts = judges.scorer.text_embeddings([s.caption for s in samples])
    return 1 - retrieval(judges.scorer.image_embeddings(images(samples)), texts)[rank]


# All in the sense "lower is better".
Metric = Callable[[Judges, Samples, Samples], float]
METRICS: dict[str, Metric] = {
    "fd": frechet,
    "kid": kernel,
    "score": score,
    "r1": partial(misses, rank="r1"),
    "r5": partial(misses, rank="r5"),
}
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())


@pytest.fixture(scope="module")
def real() -> list[Sample]:
    """Starter images, spread over labels and styles, on white."""
    records = [r for i, r in enumerate(iter_records(SourcesSection())) if i % 61 == 0][: 2 * COUNT]
    return [
        Sample(np.asarray(to_rgb(open_image(r.image_bytes, 10**6), (255, 255, 255))), r.caption)
        for r in records
    ]


@pytest.fixture(scope="module")
def judges() -> Judges:
    return Judges.make(batch_size=16)


def noisy(samples: Samples, amount: float) -> list[Sample]:
    """Normal noise of `amount` grey levels."""
    generator = np.random.default_rng(0)
    return [
        Sample(
            np.clip(s.image + amount * generator.normal(size=s.image.shape), 0, 255).astype(
                np.uint8
            ),
            s.caption,
        )
        for s in samples
    ]


@every_metric
def test_batch_size_does_not_matter(metric: Metric, judges: Judges, real: list[Sample]):
    few, reference = real[:10], real[10:20]
    assert metric(Judges.make(3), few, reference) == pytest.approx(
        metric(judges, few, reference), rel=1e-4, abs=1e-6
    )


@every_metric
def test_order_does_not_matter(metric: Metric, judges: Judges, real: list[Sample]):
    few, reference = real[:10], real[10:20]
    assert metric(judges, few[::-1], reference[::-1]) == pytest.approx(
        metric(judges, few, reference), rel=1e-4, abs=1e-6
    )


@every_metric
def test_worse_pictures_get_worse_figures(metric: Metric, judges: Judges, real: list[Sample]):
    half, reference = real[:COUNT], real[COUNT:]
    figures = [metric(judges, noisy(half, amount), reference) for amount in (0, 30, 90)]
    assert figures == sorted(figures)
    assert figures[2] > figures[0]


@pytest.mark.parametrize("metric", [frechet, kernel])
def test_no_set_is_nearer_than_the_set_itself(metric: Metric, judges: Judges, real: list[Sample]):
    half = real[:COUNT]
    itself = metric(judges, half, half)
    assert itself <= 1e-6
    assert metric(judges, real[COUNT:], half) > itself
    assert metric(judges, noisy(half, 10), half) > itself


@pytest.mark.parametrize("metric", [score, METRICS["r1"], METRICS["r5"]])
def test_shuffled_captions_are_noticed(metric: Metric, judges: Judges, real: list[Sample]):
    half = real[:COUNT]
    shuffled = [
        Sample(s.image, other.caption) for s, other in zip(half, half[7:] + half[:7], strict=True)
    ]
    assert metric(judges, shuffled, []) > metric(judges, half, [])
