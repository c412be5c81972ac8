"""Is a teacher copying? How near its pictures come to the training images.

The data hold one picture of each label and style, so a faithful picture of a
known pair must look like it. Three rows are set side by side: generated
pictures, held-out real images (what distance is natural between different
pictures of this data), and training images that went through the autoencoder
(what a copy would measure). All on white, since a background of one colour
would drown everything else.

Distances: `feature`, 1 - cosine of pooled features centred on the training
images; `pixel`, RMS difference of 8-bit values at 64x64 or less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgekd.metrics.caption_fit import normalise
from edgekd.metrics.features import FloatArray, resize
from edgekd.teach.data import WHITE, Placement, Subject, render
from edgekd.teach.evaluation.autoencoder import Autoencoder
from edgekd.teach.evaluation.extractor import ImageExtractor
from edgekd.teach.evaluation.images import Images
from edgekd.teach.evaluation.prompts import Prompt
from edgekd.teach.evaluation.schema import NearestFigures, Spread

Rows = npt.NDArray[np.intp]
PIXEL_SIDE = 64
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CHUNK = 256
COPIES = 500


class Nearest(NamedTuple):
    """Of N pictures: distance to the nearest training image and its row, in both spaces."""

    feature: FloatArray
    feature_row: Rows
    pixel: FloatArray
    pixel_row: Rows


@dataclass(frozen=True)
class TrainingImages:
    """All training subjects on white: images uint8 [M,R,R,3] and their centred features."""

    subjects: Sequence[Subject]
    images: Images
    extractor: ImageExtractor
    centre: FloatArray
    unit: FloatArray
    pixels: FloatArray

    @classmethod
    def of(cls, subjects: Sequence[Subject], extractor: ImageExtractor) -> TrainingImages:
        images = on_white(subjects)
        pooled = extractor.extract(images).pooled
        centre = pooled.mean(axis=0)
        unit = normalise(pooled - centre)
        return cls(subjects, images, extractor, centre, unit, flat_pixels(images))

    def nearest(self, images: Images) -> Nearest:
        """Search for each of N images on white."""
        pooled, pixels = self.extractor.extract(images).pooled, flat_pixels(images)
        unit = normalise(pooled - self.centre)
        parts = []
        squares = (self.pixels**2).sum(axis=1)
        for start in range(0, len(images), CHUNK):
            part = slice(start, start + CHUNK)
            feature = 1 - unit[part] @ self.unit.T
            row = (squares - 2 * (pixels[part] @ self.pixels.T)).argmin(1)
            # Anew: near a copy, the difference of these large sums is rounding error.
            rms = np.sqrt(np.square(pixels[part] - self.pixels[row]).mean(axis=1))
            parts.append((feature.min(1), feature.argmin(1), rms, row))
        return Nearest(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def on_white(subjects: Sequence[Subject]) -> Images:
    return np.stack([render(subject, Placement(WHITE), {}) for subject in subjects])


def flat_pixels(images: Images) -> FloatArray:
    """Flat 8-bit values, [N,P], of images reduced to `PIXEL_SIDE` where they are larger."""
    side = min(PIXEL_SIDE, images.shape[1])
    return np.stack([resize(image, side).astype(np.float32).ravel() for image in images])


def quantiles(values: FloatArray) -> dict[str, float]:
    """`p05` to `p95`."""
    return {f"p{round(100 * q):02d}": float(np.quantile(values, q)) for q in QUANTILES}


def row_figures(near: Nearest, natural: Nearest, copies: Nearest) -> NearestFigures:
    """Quantiles of a row, and how much of it is nearer than what is natural, or as near as a copy.

    Args:
        natural: the row of held-out real images.
        copies: the row of training images that went through the autoencoder.
    """
    return NearestFigures(
        images=len(near.feature),
        feature=spread(near.feature, natural.feature, copies.feature),
        pixel=spread(near.pixel, natural.pixel, copies.pixel),
    )


def spread(values: FloatArray, natural: FloatArray, copies: FloatArray) -> Spread:
    """Of distances in one space, beside those of held-out real images and of copies."""
    limit, copy = np.quantile(natural, 0.05), np.quantile(copies, 0.95)
    return Spread(
        **quantiles(values),
        below_held_out_p05=float((values < limit).mean()),
        within_copies_p95=float((values <= copy).mean()),
    )


def own_share(
    near: Nearest, training: TrainingImages, prompts: Sequence[Prompt], *fields: str
) -> float:
    """Share of pictures whose nearest training image has the prompt's own `fields`."""
    own = attrgetter(*fields)
    found = [training.subjects[row] for row in near.feature_row.tolist()]
    pairs = zip(found, prompts, strict=True)
    return float(np.mean([own(subject) == own(prompt.subject) for subject, prompt in pairs]))


def held_out_row(training: TrainingImages, subjects: Sequence[Subject]) -> Nearest:
    """Neighbours of held-out real images."""
    return training.nearest(on_white(subjects))


def copies_row(training: TrainingImages, autoencoder: Autoencoder) -> Nearest:
    """Neighbours of training images that went through the autoencoder: what copies measure."""
    stride = -(-len(training.images) // COPIES)
    return training.nearest(autoencoder.reconstruct(training.images[::stride]))
