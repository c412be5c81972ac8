"""Aspect buckets: sizes of about equal area, of which each training image takes the nearest.

An image is then cut far less than to a square, and those of one size make up a batch. Introduced
by NovelAI (2022); SDXL was trained so too (Podell et al. 2023, appendix I: what comes out here for
1024 and 64 is its longest size for each shorter side).

Sizes are (height, width) in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgekd.errors import InputError
from edgekd.recipe import DataSection

Size = tuple[int, int]


def bucket_sizes(side: int, step: int, max_aspect: float) -> list[Size]:
    """The square, and for each shorter side in multiples of `step` the longest other side that
    keeps within the square's area, upright and across; the nearer to the square the earlier.

    Args:
        side: of the square, a multiple of `step`.
        max_aspect: largest ratio of long to short side.
    """
    sizes = [(side, side)]
    for short in range(side - step, 0, -step):
        long = side * side // short // step * step
        if long <= max_aspect * short:
            sizes += [(long, short), (short, long)]
    return sizes


def nearest_bucket(size: Size, buckets: Sequence[Size]) -> int:
    """Which bucket's aspect is nearest to an image's, by ratio; of two the earlier."""
    aspect = math.log(size[0] / size[1])
    distances = [abs(math.log(height / width) - aspect) for height, width in buckets]
    return distances.index(min(distances))


def training_sizes(section: DataSection) -> list[Size]:
    """Sizes of training images; the first is the square, which all validation images have.

    Raises:
        InputError: aspect buckets whose step is left to a teacher, or does not divide the side.
    """
    side, step = section.side, section.bucket_step
    if not section.aspect_buckets:
        return [(side, side)]
    if step is None or side % step:
        raise InputError(
            "with `data.aspect_buckets` `data.resolution` must be a multiple of `data.bucket_step`",
            f"{side} and {step or 'null'}",
        )
    return bucket_sizes(side, step, section.filters.max_aspect)
