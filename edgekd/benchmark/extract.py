"""Networks that turn pictures into rows of numbers, from which metrics are computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from edgekd.errors import InputError
from edgekd.files import hash_tree
from edgekd.metrics.caption_fit import side_by_side
from edgekd.metrics.extractors.scorer import Scorer
from edgekd.metrics.extractors.weights import SHORT
from edgekd.metrics.features import FeatureExtractor
from edgekd.metrics.metric import Extraction, Floats, Images, Metric, PictureExtractor, Weights
from edgekd.resources import STARTER


class ShippedRows(NamedTuple):
    """`features` [N,D]; `embeddings` [N,2E]: images' and captions', side by side."""

    features: Floats
    embeddings: Floats


class Extractors(Protocol):
    """What every benchmark has; `StarterExtractors` are the real ones.

    Attributes:
        extractor, scorer: names with resize and weights, part of the metrics' names.
        key: hash of their files.
    """

    extractor: str
    scorer: str
    key: str

    def __call__(self, images: Images, captions: Sequence[str]) -> ShippedRows:
        """Rows of images with their captions."""


class StarterExtractors:
    """The offline networks that ship with edgekd."""

    def __init__(self) -> None:
        features = FeatureExtractor()
        self._scorer = Scorer(extractor=features)
        self.key = hash_tree(STARTER / "scorers")
        self.extractor = f"{features.name}-{self.key[:SHORT]}"
        self.scorer = f"{self._scorer.name}-{self.key[:SHORT]}"

    def __call__(self, images: Images, captions: Sequence[str]) -> ShippedRows:
        features, embeddings = self._scorer.features_and_embeddings(images)
        texts = self._scorer.text_embeddings(captions)
        return ShippedRows(features, side_by_side(embeddings, texts))


@dataclass(frozen=True)
class Networks:
    """All extractors of a benchmark.

    Attributes:
        others: by the name of the metrics' `Extraction`; without those whose weights are missing.
    """

    shipped: Extractors
    others: Mapping[str, PictureExtractor]

    @property
    def names(self) -> dict[str, str]:
        """Full names of `others`."""
        return {name: one.name for name, one in self.others.items()}

    def measurable(self, metrics: Sequence[Metric]) -> tuple[Metric, ...]:
        """The metrics whose extractor is here."""
        return tuple(
            metric
            for metric in metrics
            if metric.extraction is None or metric.extraction.name in self.others
        )


def open_networks(metrics: Sequence[Metric], weights: Weights, shipped: Extractors) -> Networks:
    """The networks that metrics need, as far as their weights were given; none is loaded yet.

    Raises:
        InputError: weights that cannot be used, or two extractions of one name.
    """
    asked: dict[str, Extraction] = {}
    for metric in metrics:
        if metric.extraction is None:
            continue
        known = asked.setdefault(metric.extraction.name, metric.extraction)
        if known != metric.extraction:
            raise InputError(
                "names of extractions must be unique",
                f"`{known.name}`, again in the metric `{metric.descriptor.name}`",
            )
    opened = {name: extraction.open(weights) for name, extraction in asked.items()}
    return Networks(shipped, {name: one for name, one in opened.items() if one is not None})
