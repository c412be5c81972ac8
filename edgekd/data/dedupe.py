"""Exact and near duplicates.

Two images are near duplicates when their 64-bit perceptual hashes (DCT of the
grey image, imagehash's `phash`) differ in at most `distance` bits *and* their
8x8 colour thumbnails differ by at most `rms`. The hash alone takes a red heart
for a green one, and simple icons on plain ground for each other.

Close hashes are found by multi-index hashing (Norouzi, Punjani and Fleet,
CVPR 2012): of four 16-bit bands at least one differs in at most
`distance // 4` bits, so only the buckets within that radius are looked at.

Shapes: N images; hashes `uint64 [N]`, thumbnails `uint8 [N, 192]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

BANDS = 4
BAND_BITS = 16
THUMBNAIL_SIDE = 8
THUMBNAIL_BYTES = THUMBNAIL_SIDE * THUMBNAIL_SIDE * 3
# Both measures are taken from one reduced copy, so large images cost one pass over their pixels.
REDUCED_SIDE = 64

Indices = npt.NDArray[np.int64]


def fingerprint(image: Image.Image) -> tuple[int, bytes]:
    """Perceptual hash (64 bits) and colour thumbnail (192 bytes, RGB rows) of an RGB image."""
    import imagehash

    small = image.resize((REDUCED_SIDE, REDUCED_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    bits = np.packbits(imagehash.phash(small).hash.ravel())
    thumbnail = small.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    return int.from_bytes(bits.tobytes(), "big"), thumbnail.tobytes()


class NearIndex:
    """Finds near duplicates among N images without comparing all pairs."""

    def __init__(
        self,
        hashes: npt.NDArray[np.uint64],
        thumbnails: npt.NDArray[np.uint8],
        distance: int,
        rms: float,
    ) -> None:
        self._hashes, self._thumbnails = hashes, thumbnails
        self._distance, self._rms = distance, rms
        bands = np.ascontiguousarray(hashes).view(np.uint16).reshape(len(hashes), BANDS)
        self._order = [np.argsort(bands[:, band], kind="stable") for band in range(BANDS)]
        self._keys = [bands[order, band] for band, order in enumerate(self._order)]
        values = np.arange(1 << BAND_BITS, dtype=np.uint16)
        self._flips = values[np.bitwise_count(values) <= distance // BANDS]

    def candidates(self, index: int) -> Indices:
        """Images in the buckets around one image's, itself among them, sorted."""
        bands = self._hashes[index : index + 1].view(np.uint16)
        found = []
        for band in range(BANDS):
            probes = bands[band] ^ self._flips
            low = np.searchsorted(self._keys[band], probes, "left")
            high = np.searchsorted(self._keys[band], probes, "right")
            order = self._order[band]
            found += [order[a:b] for a, b in zip(low, high, strict=True) if b > a]
        result: Indices = np.unique(np.concatenate(found))
        return result

    def matches(self, index: int, among: Indices) -> Indices:
        """Those `among` the given images that are near duplicates of one image."""
        bits = np.bitwise_count(self._hashes[among] ^ self._hashes[index])
        among = among[bits <= self._distance]
        difference = self._thumbnails[among].astype(np.float32) - self._thumbnails[index]
        matches: Indices = among[np.sqrt(np.mean(difference**2, axis=1)) <= self._rms]
        return matches


@dataclass(frozen=True)
class Duplicates:
    """`twin [N]`: the image that stands for each duplicate, -1 for images that stay;
    `exact [N]`: whether it has the same bytes."""

    twin: Indices
    exact: npt.NDArray[np.bool_]


def find_duplicates(
    image_hashes: list[bytes],
    hashes: npt.NDArray[np.uint64],
    thumbnails: npt.NDArray[np.uint8],
    validation: npt.NDArray[np.bool_],
    distance: int,
    rms: float,
) -> Duplicates:
    """Decide which images are dropped; a function of the order of the images alone.

    Training images come first, in their order: the first of a set of duplicates stays.
    A validation image that is a duplicate of *any* training image, kept or dropped, is
    dropped: whoever trains on the training side, before or after deduplication, has seen
    no near duplicate of what remains for validation.

    Args:
        image_hashes: SHA-256 digests of the image files.
        distance: bits; -1 leaves near duplicates in.
        rms: of thumbnails, in levels of 255.
    """
    count = len(image_hashes)
    twin = np.full(count, -1, np.int64)
    order = np.concatenate([np.flatnonzero(~validation), np.flatnonzero(validation)])
    first: dict[bytes, int] = {}
    for index in order.tolist():
        original = first.setdefault(image_hashes[index], index)
        if original != index:
            twin[index] = original
    exact = twin >= 0
    if distance >= 0 and count:
        index_of_near = NearIndex(hashes, thumbnails, distance, rms)
        _mark_near(index_of_near, order[~exact[order]], validation, twin)
    return Duplicates(twin, exact)


def _mark_near(
    near: NearIndex, order: Indices, validation: npt.NDArray[np.bool_], twin: Indices
) -> None:
    rank: npt.NDArray[Any] = np.full(len(twin), len(twin), np.int64)
    rank[order] = np.arange(len(order))
    for index in order.tolist():
        among = near.candidates(index)
        standing = twin[among] < 0
        if validation[index]:
            standing |= ~validation[among]
        among = among[standing & (rank[among] < rank[index])]
        matches = near.matches(index, among)
        if len(matches):
            twin[index] = matches[np.argmin(rank[matches])]
