"""How well images fit their captions: CLIP score and retrieval, by a dual encoder.

CLIP score is `100 * max(cos(image, caption), 0)` (Hessel et al., 2021, arXiv:2104.08718, with
the factor 100 of torchmetrics). Two scorers give the embeddings: `Scorer`, the starter's own small
encoder, and `ClipScorer`, any CLIP checkpoint in a local folder. Scores of different scorers
cannot be compared with one another: `name` says which one it was.

Shapes: N images or captions; embeddings [N,D], rows of length 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError
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


class CaptionScorer(Protocol):
    """A dual encoder. Rows of both embeddings have length 1 and share one space."""

    name: str

    def image_embeddings(self, images: Sequence[Pixels] | Pixels) -> FloatArray:
        """[N,D] of uint8 images [H,W,3]."""

    def text_embeddings(self, captions: Sequence[str]) -> FloatArray:
        """[N,D] of captions."""


def clip_score(image_embeddings: FloatArray, text_embeddings: FloatArray) -> FloatArray:
    """`100 * max(cos, 0)` of each pair of rows, [N].

    Raises:
        InputError: the numbers of images and captions differ, or an embedding is not finite.
    """
    _check_pairs(image_embeddings, text_embeddings)
    cosine = (image_embeddings * text_embeddings).sum(axis=1)
    return np.asarray(100 * np.maximum(cosine, 0), dtype=np.float32)


def retrieval(image_embeddings: FloatArray, text_embeddings: FloatArray) -> dict[str, float]:
    """Share of images whose own caption is the best (`r1`) or among the best five (`r5`) of all N.

    Row i of both belongs together. Equal similarities count as a draw by lot: an encoder that
    maps everything to one point gets k/N, and equal captions share their places. With swapped
    arguments it is the share of captions that find their image.

    Raises:
        InputError: as in `clip_score`.
    """
    _check_pairs(image_embeddings, text_embeddings)
    hits = recall(image_embeddings @ text_embeddings.T, np.arange(len(image_embeddings)))
    return {name: float(values.mean()) for name, values in hits.items()}


def recall(similarity: FloatArray, own: npt.NDArray[np.int64]) -> dict[str, FloatArray]:
    """Whether each image's own caption is the best (`r1`) or among the best five (`r5`), [N].

    Equal similarities share their places, so values between 0 and 1 occur.

    Args:
        similarity: of N images and C captions, [N,C].
        own: column of each image's own caption, [N].
    """
    # Rounded, so that equal captions tie whatever the order of the sums.
    rounded = np.round(similarity, 6)
    mine = rounded[np.arange(len(own)), own][:, None]
    better = (rounded > mine).sum(axis=1)
    equal = (rounded == mine).sum(axis=1)
    return {
        f"r{k}": np.asarray(((k - better) / equal).clip(0, 1), dtype=np.float32) for k in (1, 5)
    }


def score(
    scorer: CaptionScorer, images: Sequence[Pixels] | Pixels, captions: Sequence[str]
) -> FloatArray:
    """CLIP score of each image with its caption, [N]; errors as in `clip_score`."""
    return clip_score(scorer.image_embeddings(images), scorer.text_embeddings(captions))


def _check_pairs(images: FloatArray, texts: FloatArray) -> None:
    if len(images) != len(texts):
        raise InputError("each image needs one caption", f"{len(images)} and {len(texts)}")
    if not (np.isfinite(images).all() and np.isfinite(texts).all()):
        raise InputError("embeddings must be finite", "NaN or infinity")


def normalise(embeddings: npt.NDArray[Any]) -> FloatArray:
    """Rows divided by their length."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(lengths, 1e-12), dtype=np.float32)


def _check_captions(captions: Sequence[str]) -> None:
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
    images take `ClipScorer`.

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
        self._image = open_session(folder / "image.onnx", threads)
        self._text = open_session(folder / "text.onnx", threads)
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
        _check_captions(captions)
        ids = np.array([e.ids for e in self._tokenizer.encode_batch(list(captions))], np.int64)
        return np.asarray(self._text.run(None, {"input_ids": ids})[0])

    def score(self, images: Sequence[Pixels] | Pixels, captions: Sequence[str]) -> FloatArray:
        """CLIP score of each image with its caption, [N]; errors as in `clip_score`."""
        return score(self, images, captions)


class ClipScorer:
    """A CLIP checkpoint in a local folder, as transformers saves one (safetensors).

    Raises:
        InputError: the folder is not a CLIPModel with its tokenizer and image processor, or
            tensors are missing from its weights.
    """

    def __init__(self, path: Path, *, batch_size: int = 16) -> None:
        from edgekd.libraries import transformers

        for file in ("config.json", "model.safetensors", "preprocessor_config.json"):
            if not (path / file).is_file():
                raise InputError("a CLIP folder must hold " + file, str(path))
        kind = read_json(path / "config.json").get("model_type")
        if kind != "clip":
            raise InputError("the folder must hold a CLIPModel (`model_type` clip)", repr(kind))
        try:
            self._model, info = transformers.CLIPModel.from_pretrained(
                path, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
            self._tokenizer = transformers.CLIPTokenizerFast.from_pretrained(
                path, local_files_only=True
            )
            self._processor = transformers.CLIPImageProcessor.from_pretrained(
                path, local_files_only=True
            )
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                "a CLIP folder must load in transformers", " ".join(str(error).split())
            ) from None
        if info["missing_keys"] or info["mismatched_keys"]:
            wrong = [*info["missing_keys"], *info["mismatched_keys"]]
            raise InputError(
                "the weights must hold every tensor of the model", f"without {wrong[0]}"
            )
        self._model.eval()
        self._batch_size = batch_size
        self._length = int(self._model.config.text_config.max_position_embeddings)
        self.name = f"clip-{path.resolve().name}"

    def image_embeddings(self, images: Sequence[Pixels] | Pixels) -> FloatArray:
        """[N,D] of uint8 images; preprocessed by the checkpoint's own image processor."""
        import torch

        check_images(images)
        rows = []
        for start in range(0, len(images), self._batch_size):
            batch = list(images[start : start + self._batch_size])
            pixels = self._processor(
                images=batch, return_tensors="pt", input_data_format="channels_last"
            )
            with torch.no_grad():
                rows.append(self._model.get_image_features(**pixels).numpy())
        return normalise(np.concatenate(rows))

    def text_embeddings(self, captions: Sequence[str]) -> FloatArray:
        """[N,D] of captions, each cut to the encoder's length."""
        import torch

        _check_captions(captions)
        rows = []
        for start in range(0, len(captions), self._batch_size):
            tokens = self._tokenizer(
                list(captions[start : start + self._batch_size]),
                padding=True,
                truncation=True,
                max_length=self._length,
                return_tensors="pt",
            )
            with torch.no_grad():
                rows.append(self._model.get_text_features(**tokens).numpy())
        return normalise(np.concatenate(rows))

    def score(self, images: Sequence[Pixels] | Pixels, captions: Sequence[str]) -> FloatArray:
        """CLIP score of each image with its caption, [N]; errors as in `clip_score`."""
        return score(self, images, captions)
