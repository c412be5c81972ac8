"""The original Inception features of FID, through torch-fidelity, with the user's weights."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.metrics.extractors.fidelity import check_installed, fidelity_module, run_batched
from edgekd.metrics.extractors.weights import SHORT, hash_weights, read_state
from edgekd.metrics.metric import Extraction, Floats, Images, Weights

OPTION = "--inception"
LAYER = "2048"


class InceptionExtractor:
    """torch-fidelity's `inception-v3-compat`: pooled features [N,2048].

    It resizes to 299x299 as TensorFlow 1 did: bilinear, without antialiasing.

    Raises:
        InputError: torch-fidelity is missing, or the file; when first called: it is not of this
            network.
    """

    def __init__(self, path: Path) -> None:
        check_installed(OPTION)
        self._path = path
        self.key = hash_weights(path, OPTION)
        self.name = f"inception_v3-tf_bilinear299-{self.key[:SHORT]}"

    @cached_property
    def network(self) -> Any:
        """torch-fidelity's module."""
        import torch

        module = fidelity_module("feature_extractor_inceptionv3")
        # torch-fidelity unpickles what it is given: it is given what was read without that.
        stream = io.BytesIO()
        torch.save(read_state(self._path, OPTION), stream)
        stream.seek(0)
        try:
            return module.FeatureExtractorInceptionV3(
                "inception-v3-compat", [LAYER], feature_extractor_weights_path=stream
            )
        except RuntimeError as error:
            first = " ".join(str(error).split())[:200]
            raise InputError(f"`{OPTION}` must fit torch-fidelity's Inception", first) from None

    def __call__(self, images: Images, captions: Sequence[str]) -> Floats:
        """Features [N,2048] of uint8 images."""
        del captions
        return run_batched(lambda batch: self.network(batch)[0], images)


def _open(weights: Weights) -> InceptionExtractor | None:
    return None if weights.inception is None else InceptionExtractor(weights.inception)


INCEPTION = Extraction("inception", _open)
