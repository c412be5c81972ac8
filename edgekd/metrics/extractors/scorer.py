"""The starter's own dual encoder of pictures and captions.

Shapes: N images or captions; embeddings [N,D], rows of length 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgekd.errors import InputError
from edgekd.metrics.caption_fit import clip_score
from edgekd.metrics.features import (
    FeatureExtractor,
    FloatArray,
    Pixels,
    check_images,
    open_session,
)
from edgekd.reading import read_json
from edgekd.resources import STARTER

SCORER_FOLDER = STARTER / "scorers" / "scorer"


def check_captions(captions: Sequence[str]) -> None:
    if isinstance(captions, str) or len(captions) == 0:
        raise InputError("captions must be a list with at least one caption", repr(captions))


def thumbnails(images: Sequence[Pixels] | Pixels, size: int) -> FloatArray:
    """Mean colours of a size x size grid over each image, [N, size*size*3] in [0,1]."""
    from PIL import Image

    grids = [
        np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX))
        for image in images
    ]
    return np.asarray(np.stack(grids).reshape(len(grids), -1) / 255, dtype=np.float32)


class Scorer:
    """The starter's dual encoder for captioned emoji (see its card), run by onnxruntime.

    It knows the words, styles and background colours of the starter's captions. For other
    images take a CLIP checkpoint.

    Raises:
        InputError: a file of the folder is missing.
    """

    def __init__(
        self,
        folder: Path = SCORER_FOLDER,
        extractor: FeatureExtractor | None = None,
        *,
        threads: int = 0,
    ) -> None:
        from tokenizers import Tokenizer

        config = read_json(folder / "config.json")
        self.name = str(config["name"])
        self._thumbnail = int(config["thumbnail"])
        self._image = open_session(folder / "image.onnx.xz", threads)
        self._text = open_session(folder / "text.onnx.xz", threads)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._extractor = extractor or FeatureExtractor(threads=threads)

    def image_embeddings(self, images: Sequence[Pixels] | Pixels) -> FloatArray:
        """[N,D] of uint8 images; errors as in `FeatureExtractor`."""
        return self.features_and_embeddings(images)[1]

    def features_and_embeddings(
        self, images: Sequence[Pixels] | Pixels
    ) -> tuple[FloatArray, FloatArray]:
        """The extractor's pooled features [N,1280] and the embeddings, by one pass of the trunk."""
        check_images(images)
        inputs = self.image_inputs(images)
        embeddings = np.asarray(self._image.run(None, {"inputs": inputs})[0])
        return inputs[:, : self._extractor.dimensions], embeddings

    def image_inputs(self, images: Sequence[Pixels] | Pixels) -> FloatArray:
        """What the image tower takes: pooled features, level means and thumbnail, side by side."""
        features = self._extractor.extract(images)
        return np.concatenate([*features, thumbnails(images, self._thumbnail)], axis=1)

    def text_embeddings(self, captions: Sequence[str]) -> FloatArray:
        """[N,D] of captions, each cut to the encoder's length.

        Raises:
            InputError: no caption.
        """
        check_captions(captions)
        ids = np.array([e.ids for e in self._tokenizer.encode_batch(list(captions))], np.int64)
        return np.asarray(self._text.run(None, {"input_ids": ids})[0])

    def score(self, images: Sequence[Pixels] | Pixels, captions: Sequence[str]) -> FloatArray:
        """CLIP score of each image with its caption, [N]; errors as in `clip_score`."""
        return clip_score(self.image_embeddings(images), self.text_embeddings(captions))
