"""What the offline networks see in pictures, computed once and kept by the pictures' content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.artifacts import hash_tree
from edgekd.benchmark.cache import Cache
from edgekd.errors import GateError
from edgekd.metrics.clip_score import Scorer
from edgekd.metrics.features import FeatureExtractor, FloatArray
from edgekd.resources import STARTER

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Seen:
    """Of N pictures.

    Attributes:
        pooled: features for FD, KID and neighbours, [N,1280].
        embeddings: the scorer's, rows of length 1, [N,D].
    """

    pooled: FloatArray
    embeddings: FloatArray


class Eye:
    """The feature extractor and the scorer that ship with edgekd."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._key = hash_tree(STARTER / "scorers")

    @cached_property
    def extractor(self) -> FeatureExtractor:
        return FeatureExtractor()

    @cached_property
    def scorer(self) -> Scorer:
        return Scorer(extractor=self.extractor)

    def see(self, images: Images) -> Seen:
        """Features and embeddings of uint8 images [N,H,W,3].

        Raises:
            GateError: a feature is not finite.
        """

        def look() -> dict[str, Any]:
            pooled, embeddings = self.scorer.features_and_embeddings(images)
            return {"pooled": pooled, "embeddings": embeddings}

        content = hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
        tensors = self._cache.tensors("seen", [self._key, list(images.shape), content], look)
        if not all(np.isfinite(values).all() for values in tensors.values()):
            raise GateError("every image feature must be finite", "NaN or infinity")
        return Seen(tensors["pooled"], tensors["embeddings"])
