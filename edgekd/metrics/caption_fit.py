"""How well images fit their captions, from a dual encoder's embeddings.

Shapes: N images with their captions; C different captions; embeddings [N,D], rows of length 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError
from edgekd.metrics.features import FloatArray

_BLOCK = 500


def clip_score(image_embeddings: FloatArray, text_embeddings: FloatArray) -> FloatArray:
    """`100 * max(cos, 0)` of each pair of rows, [N].

    Raises:
        InputError: the numbers of images and captions differ, or an embedding is not finite.
    """
    _check_pairs(image_embeddings, text_embeddings)
    # By the rows' own lengths: in float32 they are 1 to within some 1e-8 alone.
    lengths = _dots(image_embeddings, image_embeddings) * _dots(text_embeddings, text_embeddings)
    cosine = _dots(image_embeddings, text_embeddings) / np.maximum(np.sqrt(lengths), 1e-12)
    return np.asarray(100 * np.maximum(cosine, 0), dtype=np.float32)


def _dots(a: FloatArray, b: FloatArray) -> npt.NDArray[np.float64]:
    """Of each pair of rows, [N]."""
    found: npt.NDArray[np.float64] = np.einsum("nd,nd->n", a, b, dtype=np.float64)
    return found


def retrieval(
    image_embeddings: FloatArray, text_embeddings: FloatArray, captions: Sequence[str] | None = None
) -> dict[str, FloatArray]:
    """Whether each image's own caption is the best (`r1`) or among the best five (`r5`), [N].

    Row i of both belongs together. Equal similarities count as a draw by lot: an encoder that
    maps everything to one point gets k/C, and equal captions share their places. With swapped
    arguments it is whether captions find their image.

    Args:
        captions: equal ones are one caption to choose; None: all N are.

    Raises:
        InputError: as in `clip_score`.
    """
    _check_pairs(image_embeddings, text_embeddings)
    first, own = np.arange(len(text_embeddings)), np.arange(len(text_embeddings))
    if captions is not None:
        _, first, own = np.unique(np.asarray(captions), return_index=True, return_inverse=True)
    different = text_embeddings[first].T
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(own), _BLOCK)]
    hits = [recall(image_embeddings[block] @ different, own[block]) for block in blocks]
    return {name: np.concatenate([hit[name] for hit in hits]) for name in ("r1", "r5")}


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


def _check_pairs(images: FloatArray, texts: FloatArray) -> None:
    if len(images) != len(texts):
        raise InputError("each image needs one caption", f"{len(images)} and {len(texts)}")
    if not (np.isfinite(images).all() and np.isfinite(texts).all()):
        raise InputError("embeddings must be finite", "NaN or infinity")


def normalise(embeddings: npt.NDArray[Any]) -> FloatArray:
    """Rows divided by their length."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(lengths, 1e-12), dtype=np.float32)


def side_by_side(image_embeddings: FloatArray, text_embeddings: FloatArray) -> FloatArray:
    """Both embeddings of each pair as one row of an extraction, [N,2D]."""
    return np.concatenate([image_embeddings, text_embeddings], axis=1)


def halves(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Image and caption embeddings [N,D] of `side_by_side` rows."""
    half = rows.shape[1] // 2
    return rows[:, :half], rows[:, half:]
