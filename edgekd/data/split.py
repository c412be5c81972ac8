"""The train/validation split, decided by hashes of content.

Whether a sample is held out depends on its group, its image and the seed
only: not on order, on other samples, on the machine or on the number of
processes. Whoever trains anything on the same data (a teacher, a scorer, a
student) calls `holdout` and so leaves out the same samples.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from edgekd.data.records import Record
from edgekd.recipe import SplitSection

Holdout = Literal["train", "group", "image"]


def _uniform(seed: int, kind: str, value: str) -> float:
    """A number in [0, 1) that is a fixed, well mixed function of its arguments."""
    text = f"{seed}\0{kind}\0{value}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def group_of(record: Record, split: SplitSection) -> str:
    """The group of a record: its field `group_key`, or its caption where that is absent."""
    key = record.group_key if split.group_key is None else split.group_key
    return record.fields.get(key) or record.caption


def holdout(group: str, image_hash: str, split: SplitSection) -> Holdout:
    """Which side of the split a sample is on.

    Args:
        group: what `group_of` gives; groups are held out whole.
        image_hash: SHA-256 (hex) of the image file's bytes.
        split: fractions and seed.

    Returns:
        `"group"`: validation, the whole group is unseen in training; `"image"`:
        validation, other images of the group are in training; `"train"`.
    """
    if _uniform(split.seed, "group", group) < split.group_fraction:
        return "group"
    if _uniform(split.seed, "image", image_hash) < split.image_fraction:
        return "image"
    return "train"
