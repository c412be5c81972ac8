"""Features of pictures by the offline networks, computed once for each picture's content."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from edgekd.benchmark.cache import Cache
from edgekd.errors import GateError
from edgekd.files import hash_tree
from edgekd.metrics.extractors.scorer import Scorer
from edgekd.metrics.features import FeatureExtractor, FloatArray
from edgekd.resources import STARTER
from edgekd.teach.evaluation.images import Images, cached_arrays


@dataclass(frozen=True)
class ImageFeatures:
    """Of N pictures.

    Attributes:
        pooled: features for FD, KID and neighbours, [N,1280].
        embeddings: the scorer's, rows of length 1, [N,D].
    """

    pooled: FloatArray
    embeddings: FloatArray


class ImageExtractor:
    """The feature extractor and the scorer that ship with edgekd."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._key = hash_tree(STARTER / "scorers")

    @cached_property
    def backbone(self) -> FeatureExtractor:
        return FeatureExtractor()

    @cached_property
    def scorer(self) -> Scorer:
        return Scorer(extractor=self.backbone)

    def extract(self, images: Images) -> ImageFeatures:
        """Features and embeddings of uint8 images [N,H,W,3].

        Raises:
            GateError: a feature is not finite.
        """
        arrays = cached_arrays(self._cache, "seen", self._key, images, self._compute)
        if not all(np.isfinite(values).all() for values in arrays.values()):
            raise GateError("every image feature must be finite", "NaN or infinity")
        return ImageFeatures(arrays["pooled"], arrays["embeddings"])

    def _compute(self, images: Images) -> dict[str, Any]:
        pooled, embeddings = self.scorer.features_and_embeddings(images)
        return {"pooled": pooled, "embeddings": embeddings}
