"""Near duplicates are found without comparing all pairs, and never cross the split."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgekd.data.dedupe import THUMBNAIL_BYTES, NearIndex, find_duplicates, fingerprint

PLAIN = np.zeros((1, THUMBNAIL_BYTES), np.uint8)


def bits(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def near(a: Image.Image, b: Image.Image, distance: int = 2, rms: float = 3.0) -> bool:
    prints = [fingerprint(image) for image in (a, b)]
    hashes = np.array([p[0] for p in prints], np.uint64)
    thumbnails = np.array([np.frombuffer(p[1], np.uint8) for p in prints])
    index = NearIndex(hashes, thumbnails, distance, rms)
    return 1 in index.matches(0, index.candidates(0))


def heart(color: str) -> Image.Image:
    image = Image.new("RGB", (64, 64), "white")
    image.paste(color, (16, 12, 48, 52))
    image.paste(color, (10, 20, 54, 34))
    return image


def test_same_shape_in_another_colour_is_another_image():
    red, green = heart("#d02030"), heart("#20a040")
    assert bits(fingerprint(red)[0], fingerprint(green)[0]) <= 2
    assert not near(red, green)


def test_reencoded_and_rescaled_copies_are_near(picture):
    image = picture(5, (200, 200))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90)
    assert near(image, Image.open(stream).convert("RGB"))
    assert near(image, image.resize((120, 120), Image.Resampling.LANCZOS))
    assert not near(image, picture(6, (200, 200)))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20), st.integers(0, 8), st.data())
def test_every_close_hash_is_a_candidate(hashes, distance, data):
    flips = data.draw(st.lists(st.sets(st.integers(0, 63), max_size=distance), max_size=10))
    hashes += [hashes[0] ^ sum(1 << bit for bit in flip) for flip in flips]
    array = np.array(hashes, np.uint64)
    index = NearIndex(array, np.repeat(PLAIN, len(array), 0), distance, 0.0)
    for i, value in enumerate(hashes):
        expected = [j for j, other in enumerate(hashes) if bits(value, other) <= distance]
        assert index.matches(i, index.candidates(i)).tolist() == expected


def test_candidates_are_few():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 50_000, dtype=np.uint64)
    index = NearIndex(hashes, np.repeat(PLAIN, len(hashes), 0), 2, 0.0)
    assert np.mean([len(index.candidates(i)) for i in range(200)]) < 20


def duplicates(hashes, validation, digests=None, distance=2):
    count = len(hashes)
    digests = digests or [bytes([i]) for i in range(count)]
    return find_duplicates(
        digests,
        np.array(hashes, np.uint64),
        np.repeat(PLAIN, count, 0),
        np.array(validation, np.bool_),
        distance,
        3.0,
    )


COPIES = [b"a", b"a", b"b"]


@pytest.mark.parametrize(
    ("hashes", "validation", "digests", "distance", "twin"),
    [
        # The first of equal images stays.
        ([0, 0xFF << 40, 0b1], [False] * 3, None, 2, [-1, -1, 0]),
        ([7, 7, 7], [False] * 3, COPIES, 2, [-1, 0, 0]),
        # Off leaves near duplicates and drops exact ones.
        ([7, 7, 7], [False] * 3, COPIES, -1, [-1, 0, -1]),
        # Validation gives way to training, even when it comes first.
        ([0, 0b1], [True, False], None, 2, [1, -1]),
        # 0b11 falls to 0; 0b1111 is near 0b11 only. Training data used without deduplication
        # would hold 0b11, so 0b1111 is no longer unseen.
        ([0, 0b11, 0b1111], [False, False, True], None, 2, [-1, 0, 1]),
        ([0, 0b11, 0b1111], [False] * 3, None, 2, [-1, 0, -1]),
        ([], [], None, 2, []),
    ],
)
def test_which_of_two_stays(hashes, validation, digests, distance, twin):
    found = duplicates(hashes, validation, digests, distance)
    assert found.twin.tolist() == twin
    assert found.exact.tolist() == [digests is COPIES and place == 1 for place in range(len(twin))]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 63), st.booleans()), max_size=30), st.integers(0, 3))
def test_nothing_kept_is_near_anything_kept_or_across_the_split(samples, distance):
    hashes = [value for value, _ in samples]
    validation = [side for _, side in samples]
    kept = duplicates(hashes, validation, distance=distance).twin < 0
    for i in np.flatnonzero(kept):
        for j in range(len(hashes)):
            if j == i or bits(hashes[i], hashes[j]) > distance:
                continue
            assert not kept[j]
            assert not (validation[i] and not validation[j])


@pytest.mark.parametrize("size", [(640, 480), (33, 90)])
def test_fingerprint_size(picture, size):
    phash, thumbnail = fingerprint(picture(1, size))
    assert 0 <= phash < 2**64
    assert len(thumbnail) == THUMBNAIL_BYTES
