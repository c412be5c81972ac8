"""Networks that turn pictures into features and scores, from which metrics are computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from edgekd.files import hash_tree
from edgekd.metrics.metric import Floats, Images
from edgekd.resources import STARTER


class Extractors(Protocol):
    """What metrics of pictures are computed from; `StarterExtractors` are the real ones.

    Attributes:
        extractor, scorer: names, part of the metrics' names.
        key: hash of their files.
    """

    extractor: str
    scorer: str
    key: str

    def features(self, images: Images) -> Floats:
        """Features [N,D] of images."""

    def scores(self, images: Images, captions: Sequence[str]) -> Floats:
        """Agreement of image and caption of each pair."""


class StarterExtractors:
    """The offline networks that ship with edgekd."""

    def __init__(self) -> None:
        from edgekd.metrics.clip_score import Scorer
        from edgekd.metrics.features import FeatureExtractor

        self._extract = FeatureExtractor()
        self._scorer = Scorer(extractor=self._extract)
        self.extractor = str(self._extract.name)
        self.scorer = str(self._scorer.name)
        self.key = hash_tree(STARTER / "scorers")

    def features(self, images: Images) -> Floats:
        return np.asarray(self._extract(images), dtype=np.float32)

    def scores(self, images: Images, captions: Sequence[str]) -> Floats:
        return np.asarray(self._scorer.score(images, list(captions)), dtype=np.float32)
