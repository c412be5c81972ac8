"""Images with alpha, their renderings and their captions, for training a teacher.

Every random choice is a pure function of (seed, purpose, index): the same
sample position gives the same sample on any number of processes and after any
restart.

Shapes: pixels are `uint8 [R, R, 3]` (RGB) or `[R, R, 4]` (RGBA), R = resolution.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor

from edgekd.data.images import BadImageError, open_image, resize_and_crop, to_rgba
from edgekd.data.records import Record, iter_records
from edgekd.data.split import group_of, holdout
from edgekd.errors import InputError
from edgekd.files import hash_value
from edgekd.teach.recipe import AugmentSection, CaptionSection, TeachDataSection

Pixels = npt.NDArray[np.uint8]
WHITE = "white"
MAX_PIXELS = 64_000_000


@dataclass(frozen=True)
class Subject:
    """One image and what is known of it. `style` and `tags` may be empty."""

    pixels: Pixels  # [R,R,4]
    label: str
    style: str
    tags: tuple[str, ...]
    transparent: bool
    split: str  # "train", or the kind of validation: "group", "image"


@dataclass(frozen=True)
class Placement:
    """How a subject is rendered: background name, shift in pixels, scale, mirrored or not."""

    background: str
    shift: tuple[int, int] = (0, 0)
    scale: float = 1.0
    flip: bool = False


def generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """The random generator of one purpose and index, the same wherever it is made."""
    tag = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "big")
    return np.random.default_rng([seed, tag, *indices])


@lru_cache(maxsize=4)
def _permutation(seed: int, purpose: str, epoch: int, count: int) -> npt.NDArray[np.int64]:
    return generator(seed, purpose, epoch).permutation(count)


def sample_indices(
    seed: int, purpose: str, positions: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.int64]:
    """Indices in [0, count) of stream positions: each epoch is a permutation of all."""
    return np.array(
        [_permutation(seed, purpose, int(p) // count, count)[int(p) % count] for p in positions],
        dtype=np.int64,
    )


@dataclass(frozen=True)
class Corpus:
    """All usable images of the sources, split; `key` is the hash of them and of what is known."""

    train: list[Subject]
    validation: list[Subject]
    key: str


def load_corpus(section: TeachDataSection) -> Corpus:
    """Read and split all sources into memory; unusable records are left out.

    Raises:
        InputError: nothing usable on either side of the split.
    """
    subjects, hashes = [], []
    for record in iter_records(section):
        subject = _subject(record, section)
        if subject is not None:
            subjects.append(subject)
            known = [subject.label, subject.style, subject.tags, subject.split]
            hashes.append([hashlib.sha256(record.image_bytes).hexdigest(), *known])
    train = [s for s in subjects if s.split == "train"]
    validation = [s for s in subjects if s.split != "train"]
    if not train or not validation:
        raise InputError(
            "the sources must hold captioned images for training and for validation",
            f"{len(train)} and {len(validation)} from {', '.join(section.sources)}",
        )
    return Corpus(train, validation, hash_value(hashes))


def _subject(record: Record, section: TeachDataSection) -> Subject | None:
    if record.problem or not record.caption:
        return None
    try:
        pixels = _decode(record.image_bytes, section.resolution)
    except BadImageError:
        return None
    fields = record.fields
    image_hash = hashlib.sha256(record.image_bytes).hexdigest()
    tags = tuple(tag for tag in (t.strip() for t in fields.get("tags", "").split(",")) if tag)
    label = fields.get("label", "") or record.caption
    # What is taught is the label, so whole labels are what is unseen unless the recipe says else.
    group = label if section.split.group_key is None else group_of(record, section.split)
    return Subject(
        pixels,
        label,
        fields.get("style", "") if fields.get("label") else "",
        tags,
        bool((pixels[..., 3] < 255).any()),
        holdout(group, image_hash, section.split),
    )


def _decode(image_bytes: bytes, resolution: int) -> Pixels:
    """RGBA pixels; an image without alpha comes out opaque."""
    image = to_rgba(open_image(image_bytes, MAX_PIXELS))
    return np.asarray(resize_and_crop(image, (resolution, resolution))[0], dtype=np.uint8)


def draw_variant(
    subject: Subject, section: AugmentSection, rng: np.random.Generator, plain: bool = False
) -> Placement:
    """A random rendering; `plain`: on white, unmoved. Opaque images keep their background."""
    if plain:
        return Placement(WHITE)
    white, moved, mirrored = rng.random(3)
    background = WHITE
    if white >= section.white_fraction and subject.transparent:
        background = str(rng.choice(sorted(section.backgrounds)))
    flip = bool(mirrored < section.flip_fraction and _may_flip(subject.label, section))
    if moved >= section.jitter_fraction:
        return Placement(background, flip=flip)
    limit = int(section.max_shift * subject.pixels.shape[0])
    y, x = (int(v) for v in rng.integers(-limit, limit + 1, 2))
    return Placement(background, (y, x), float(rng.uniform(section.min_scale, 1.0)), flip)


def _may_flip(label: str, section: AugmentSection) -> bool:
    return not any(word in label.lower() for word in section.directed_words)


def cached_variant(
    subject: Subject, section: AugmentSection, seed: int, index: int, number: int
) -> Placement:
    """Rendering `number` of subject `index` in the caches; number 0 is the plain one."""
    return draw_variant(subject, section, generator(seed, "variant", index, number), number == 0)


def render(subject: Subject, variant: Placement, backgrounds: dict[str, str]) -> Pixels:
    """Compose a subject on a background, uint8 [R,R,3]."""
    pixels = subject.pixels
    if variant.flip:
        pixels = pixels[:, ::-1]
    if variant.scale != 1.0 or variant.shift != (0, 0):
        pixels = _moved(pixels, variant, subject.transparent)
    color = (255, 255, 255) if variant.background == WHITE else _rgb(backgrounds, variant)
    alpha = pixels[..., 3:].astype(np.float32) / 255
    mixed = pixels[..., :3] * alpha + np.asarray(color, np.float32) * (1 - alpha)
    return (mixed + 0.5).astype(np.uint8)


def _rgb(backgrounds: dict[str, str], variant: Placement) -> tuple[int, ...]:
    return ImageColor.getrgb(backgrounds[variant.background])


def _moved(pixels: Pixels, variant: Placement, transparent: bool) -> Pixels:
    """Scale about the centre and shift. Opaque images fill the rim with their edge colours."""
    side = pixels.shape[0]
    size = max(1, round(side * variant.scale))
    image = Image.fromarray(np.ascontiguousarray(pixels)).resize(
        (size, size), Image.Resampling.LANCZOS
    )
    low = (side - size) // 2
    top, left = (low + shift for shift in variant.shift)
    if not transparent:
        ys, xs = (np.clip(np.arange(side) - start, 0, size - 1) for start in (top, left))
        filled: Pixels = np.asarray(image, dtype=np.uint8)[ys[:, None], xs[None, :]]
        return filled
    canvas = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    canvas.paste(image, (left, top))
    return np.asarray(canvas, dtype=np.uint8)


class Caption(NamedTuple):
    """A drawn caption; `style` is "" where it does not say one."""

    text: str
    style: str


def draw_caption(
    subject: Subject, background: str, section: CaptionSection, rng: np.random.Generator
) -> Caption:
    """A caption of a rendering, such as `red apple, fruit, 3d style, on a blue background`.

    Never empty: dropping captions for guidance is the caller's business.
    """
    kind, styleless, white = rng.random(3)
    tags = [tag for tag in subject.tags if tag != subject.label]
    parts = [subject.label]
    if kind < section.tags_only and len(tags) >= 2:
        parts = _some(tags, int(rng.integers(2, 4)), rng)
    elif kind < section.tags_only + section.with_tags and tags:
        parts += _some(tags, int(rng.integers(1, 3)), rng)
    style = subject.style if styleless >= section.without_style else ""
    if style:
        parts.append(f"{style} style")
    if background != WHITE:
        parts.append(background_phrase(background))
    elif subject.transparent and white < section.say_white:
        parts.append(background_phrase(WHITE))
    return Caption(", ".join(parts), style)


def background_phrase(name: str) -> str:
    """`blue` → `on a blue background`; `orange` → `on an orange background`."""
    return f"on {'an' if name[0] in 'aeiou' else 'a'} {name} background"


def plain_caption(subject: Subject) -> str:
    """The caption without variety: `red apple, 3d style`."""
    return f"{subject.label}, {subject.style} style" if subject.style else subject.label


def _some(items: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    chosen = rng.choice(len(items), size=min(count, len(items)), replace=False)
    return [items[int(i)] for i in chosen]


def to_batch(images: list[Pixels]) -> Any:
    """`float32 [N, 3, R, R]` tensor in [-1, 1]."""
    import torch

    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)
