"""What every metric keeps to, whichever it is."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
import pytest

from edgekd.data.images import open_image, to_rgb
from edgekd.data.records import iter_records
from edgekd.measure.memory import PeakMemory
from edgekd.metrics.caption_fit import clip_score, halves, side_by_side
from edgekd.metrics.extractors.scorer import Scorer
from edgekd.metrics.features import FeatureExtractor
from edgekd.metrics.metric import SCORER, Figure, Measurements, Metric, Pictures, Reference
from edgekd.metrics.registry import load_metrics
from edgekd.recipe import SourcesSection

COUNT = 48


@dataclass(frozen=True, eq=False)
class Sample:
    image: np.ndarray
    caption: str


Samples = tuple[Sample, ...]


def images(samples: Samples) -> np.ndarray:
    return np.stack([sample.image for sample in samples])


@dataclass(frozen=True)
class Networks:
    """The shipped ones; they stand in for those that users give, whose rows have the same form."""

    extract: FeatureExtractor
    scorer: Scorer

    @classmethod
    def make(cls, batch_size: int) -> "Networks":
        extract = FeatureExtractor(batch_size=batch_size, threads=1)
        return cls(extract, Scorer(extractor=extract, threads=1))

    @lru_cache  # noqa: B019, all sets of this module
    def rows(self, samples: Samples) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Features, image and caption embeddings side by side, and the rows of all extractions."""
        features, embeddings = self.scorer.features_and_embeddings(images(samples))
        texts = self.scorer.text_embeddings([sample.caption for sample in samples])
        pairs = side_by_side(embeddings, texts)
        return features, pairs, {name: pairs if name == "clip" else features for name in EXTRACTED}


def measurements(networks: Networks, samples: Samples, reference: Samples) -> Measurements:
    features, pairs, extracted = networks.rows(samples)
    pictures = Pictures(
        images(samples),
        tuple(sample.caption for sample in samples),
        features,
        clip_score(*halves(pairs)),
        {SCORER: pairs, **extracted},
    )
    others, _, other_rows = networks.rows(reference)
    held_against = Reference(
        others,
        networks.extract.name,
        networks.scorer.name,
        1,
        10**6,
        0,
        other_rows,
        {name: f"{name}-network" for name in EXTRACTED},
    )
    return Measurements(
        held_against,
        pictures,
        latency_ms=(2.0, 1.0, 4.0) * 34,
        cold_start_ms=(9.0, 5.0, 8.0),
        cpu_ms=(1.5, 0.5, 0.75),
        joules=(11.0,),
        memory=PeakMemory(1, 3),
        parameters=5,
        size_bytes=7,
    )


def value(metric: Metric, networks: Networks, samples: Samples, reference: Samples) -> float:
    """In the sense "lower is better"."""
    figure = metric.measure(measurements(networks, samples, reference))
    return figure.value if metric.descriptor.direction == "lower" else -figure.value


INSTALLED = {metric.descriptor.name: metric for metric in load_metrics()}
EXTRACTED = {metric.extraction.name for metric in INSTALLED.values() if metric.extraction}
# All in the sense "lower is better"; an extrapolation needs more pictures than there are here.
Value = Callable[[Networks, Samples, Samples], float]
OF_PICTURES: dict[str, Value] = {
    **{
        name: partial(value, metric)
        for name, metric in INSTALLED.items()
        if metric.descriptor.source == "pictures" and name != "fd_infinity"
    },
}
OF_CAPTIONS = [
    name for name in OF_PICTURES if name in ("score", "clip_score") or "retrieval" in name
]
COUNTS = [OF_PICTURES[name] for name in ("precision", "recall", "coverage")]
every_metric = pytest.mark.parametrize("metric", OF_PICTURES.values(), ids=OF_PICTURES.keys())


@pytest.fixture(scope="module")
def real() -> Samples:
    """Starter images, spread over labels and styles, on white."""
    records = [r for i, r in enumerate(iter_records(SourcesSection())) if i % 61 == 0][: 2 * COUNT]
    return tuple(
        Sample(np.asarray(to_rgb(open_image(r.image_bytes, 10**6), (255, 255, 255))), r.caption)
        for r in records
    )


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks.make(batch_size=16)


@lru_cache
def noisy(samples: Samples, amount: float) -> Samples:
    """Normal noise of `amount` grey levels."""
    generator = np.random.default_rng(0)
    return tuple(
        Sample(
            np.clip(s.image + amount * generator.normal(size=s.image.shape), 0, 255).astype(
                np.uint8
            ),
            s.caption,
        )
        for s in samples
    )


@pytest.fixture(scope="module")
def few_at_a_time() -> Networks:
    return Networks.make(batch_size=3)


@every_metric
def test_batch_size_does_not_matter(metric, networks, few_at_a_time, real):
    few, reference = real[:10], real[10:20]
    assert metric(few_at_a_time, few, reference) == pytest.approx(
        metric(networks, few, reference), rel=1e-4, abs=1e-6
    )


@every_metric
def test_order_does_not_matter(metric, networks, real):
    few, reference = real[:10], real[10:20]
    assert metric(networks, few[::-1], reference[::-1]) == pytest.approx(
        metric(networks, few, reference), rel=1e-4, abs=1e-6
    )


# Density rises while weak noise draws pictures together.
@pytest.mark.parametrize("metric", [OF_PICTURES[name] for name in OF_PICTURES if name != "density"])
def test_worse_pictures_get_worse_figures(metric, networks, real):
    half, reference = real[:COUNT], real[COUNT:]
    figures = [metric(networks, noisy(half, amount), reference) for amount in (0, 30, 90)]
    assert figures[2] > figures[0]
    if metric not in COUNTS:  # with so few pictures, weak noise moves neighbours either way
        assert figures == sorted(figures)


@pytest.mark.parametrize("metric", [OF_PICTURES[name] for name in ("fd", "kid")])
def test_no_set_is_nearer_than_the_set_itself(metric, networks, real):
    half = real[:COUNT]
    itself = metric(networks, half, half)
    assert itself <= 1e-6
    assert metric(networks, real[COUNT:], half) > itself
    assert metric(networks, noisy(half, 10), half) > itself


@pytest.mark.parametrize("metric", [OF_PICTURES[name] for name in OF_CAPTIONS])
def test_shuffled_captions_are_noticed(metric, networks, real):
    half = real[:COUNT]
    shuffled = tuple(
        Sample(s.image, other.caption) for s, other in zip(half, half[7:] + half[:7], strict=True)
    )
    others = real[COUNT:]
    assert metric(networks, shuffled, others) > metric(networks, half, others)


@pytest.mark.parametrize("name", sorted(INSTALLED.keys() - {"fd_infinity"}))
def test_a_metric_says_what_it_measures(name, networks, real):
    """Without its source it has no value; with it, a finite one, and texts without gaps."""
    metric, found = INSTALLED[name], measurements(networks, real[:10], real[10:20])
    assert metric.measure(Measurements(found.reference)) is None
    figure = metric.measure(found)
    assert isinstance(figure, Figure)
    assert np.isfinite([figure.value, figure.error or 0, *(figure.samples or ())]).all()
    if figure.low is not None:
        assert figure.low <= figure.value <= figure.high
    assert figure.samples is None or len(figure.samples) == 10
    shown = metric.descriptor.with_reference(found.reference, 10)
    assert "{" not in shown.full_name + shown.note
    if shown.source == "pictures":
        assert "n10" in shown.full_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("latency_ms", 2.0),
        ("cold_start_ms", 8.0),
        ("cpu_ms", 0.75),
        ("joules", 11.0),
        ("peak_bytes", 3),
        ("peak_above_baseline_bytes", 2),
        ("parameters", 5),
        ("size_bytes", 7),
    ],
)
def test_what_is_not_of_pictures_is_taken_as_it_was_measured(name, expected):
    reference = Reference(np.zeros((2, 2), np.float32), "e", "s", 1, 2, 0)
    found = Measurements(
        reference,
        latency_ms=(2.0, 1.0, 4.0),
        cold_start_ms=(9.0, 5.0, 8.0),
        cpu_ms=(1.5, 0.5, 0.75),
        joules=(11.0,),
        memory=PeakMemory(1, 3),
        parameters=5,
        size_bytes=7,
    )
    assert INSTALLED[name].measure(found) == Figure(value=expected)


def test_where_other_work_held_the_core_processor_time_stands_in_for_wall_clock():
    reference = Reference(np.zeros((2, 2), np.float32), "e", "s", 1, 2, 0)
    times = {"latency_ms": (20.0, 10.0, 40.0), "cpu_ms": (1.5, 0.5, 0.75), "contended": True}
    found = Measurements(reference, **times)
    assert INSTALLED["latency_ms"].measure(found) == Figure(value=0.5)
    assert INSTALLED["latency_p99_ms"].measure(found) is None


def test_the_slowest_of_a_hundred_is_not_that_of_a_few():
    reference = Reference(np.zeros((2, 2), np.float32), "e", "s", 1, 2, 0)
    metric, times = INSTALLED["latency_p99_ms"], tuple(map(float, range(1, 101)))
    assert metric.measure(Measurements(reference, latency_ms=times)) == Figure(value=99.01)
    assert metric.measure(Measurements(reference, latency_ms=times[1:])) is None


@pytest.mark.parametrize(
    "metric",
    [one for one in INSTALLED.values() if one.extraction],
    ids=lambda one: one.descriptor.name,
)
def test_without_its_extractor_there_is_no_value(metric, networks, real):
    found = measurements(networks, real[:10], real[10:20])
    without = replace(found, pictures=replace(found.pictures, extracted={}))
    assert metric.measure(without) is None
