"""Which captions are drawn, and which validation images are the reference.

Captions are those of held-out images, or a suite's own. Where more pictures are asked for than
there are captions, they are drawn again from other noise; the reference stays as it is.

The choice depends on keys and the seed, never on the order of the data set.
Images held out one by one come first (their thing is known from another
rendering), then groups held out whole. No image is prompt and reference at
once, so the *real images* row can be measured like any other: its distance
to the reference is the floor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgekd.artifacts import PreparedData
from edgekd.errors import InputError
from edgekd.files import hash_value
from edgekd.metrics.metric import Images

_KINDS = {"image": 0, "group": 1}


@dataclass(frozen=True)
class Prompts:
    """Prompts in drawing order, and the real images that are measured like a row of pictures.

    Attributes:
        keys: of each real image's sample. Its caption is a prompt, unless a suite has its own.
        holdouts: of each real image: `image` or `group`.
        captions: of each picture: the prompts' in turn, as often as it takes. A picture's noise is
            that of its place here.
        reference_count: validation images that are not prompts.
        content: hash of all validation images and captions, whatever code has prepared them.
        images: captions of the real images, where prompts are a suite's own; else empty.
    """

    keys: tuple[str, ...]
    holdouts: tuple[str, ...]
    captions: tuple[str, ...]
    reference_count: int
    content: str = ""
    images: tuple[str, ...] = ()

    def __len__(self) -> int:
        """How many pictures each row draws."""
        return len(self.captions)

    @property
    def different(self) -> tuple[str, ...]:
        """The caption of each prompt."""
        return tuple(dict.fromkeys(self.captions)) if self.images else self.image_captions

    @property
    def image_captions(self) -> tuple[str, ...]:
        """The caption of each real image."""
        return self.images or self.captions[: len(self.keys)]

    def spread(self, count: int) -> list[int]:
        """Indices of at most `count` prompts, spread over all."""
        return _spread(count, len(self.different))

    def spread_images(self, count: int) -> list[int]:
        """Indices of at most `count` real images, spread over all."""
        return _spread(count, len(self.keys))


def _spread(count: int, total: int) -> list[int]:
    count = min(count, total)
    return [index * total // count for index in range(count)]


def _rank(key: str, holdout: str, seed: int) -> tuple[int, str]:
    return _KINDS[holdout], hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()


def check_count(validation: int) -> None:
    """Refuse data with too few validation images to draw from half of them.

    Raises:
        InputError: fewer than 4.
    """
    if validation < 4:
        raise InputError(
            "the benchmark needs at least 4 validation images",
            str(validation),
            "Give more images, or raise `data.split.image_fraction`.",
        )


def choose_prompts(
    rows: list[tuple[str, str, str]], samples: int, seed: int, asked: Sequence[str] = ()
) -> Prompts:
    """Pick prompts among validation rows `(key, caption, holdout)`.

    At most half of the rows become prompts; they take turns until there are `samples` pictures.

    Args:
        asked: prompts that are drawn in place of the rows'.

    Raises:
        InputError: fewer than 4 validation images.
    """
    check_count(len(rows))
    count = min(samples, len(rows) // 2)
    chosen = sorted(rows, key=lambda row: _rank(row[0], row[2], seed))[:count]
    keys, captions, holdouts = zip(*chosen, strict=True)
    prompts = tuple(asked) or captions
    drawn = tuple(prompts[index % len(prompts)] for index in range(samples))
    images = captions if asked else ()
    return Prompts(keys, holdouts, drawn, len(rows) - count, images=images)


def select_prompts(
    data: PreparedData, samples: int, seed: int, asked: Sequence[str] = ()
) -> Prompts:
    """`choose_prompts` on the validation split of prepared data."""
    from edgekd.data.dataset import iter_prepared

    rows, contents = [], []
    for sample in iter_prepared(data, "validation"):
        rows.append((sample.key, sample.caption, str(sample.holdout)))
        pixels = hashlib.sha256(sample.image.tobytes()).hexdigest()
        contents.append([sample.key, sample.caption, list(sample.image.shape), pixels])
    chosen = choose_prompts(rows, samples, seed, asked)
    return replace(chosen, content=hash_value(sorted(contents)))


def iter_validation(data: PreparedData, batch_size: int) -> Iterator[tuple[list[str], Images]]:
    """Validation images [B,H,W,3] with their keys, in batches."""
    from edgekd.data.dataset import iter_prepared

    batch: list[Any] = []
    for sample in iter_prepared(data, "validation"):
        batch.append(sample)
        if len(batch) == batch_size:
            yield [s.key for s in batch], np.stack([s.image for s in batch])
            batch = []
    if batch:
        yield [s.key for s in batch], np.stack([s.image for s in batch])
