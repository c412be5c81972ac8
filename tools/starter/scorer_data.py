"""What the scorer learns from: renderings as image inputs, their captions, batches of both.

Shapes: N renderings; I image inputs (pooled features, level means, thumbnail).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageFilter

from edgekd.files import hash_file, hash_value
from edgekd.metrics.extractors.scorer import thumbnails
from edgekd.metrics.features import FEATURES_ONNX, FeatureExtractor, FloatArray, Pixels
from edgekd.progress import Progress
from edgekd.teach.data import (
    WHITE,
    Corpus,
    Placement,
    Subject,
    background_phrase,
    draw_caption,
    draw_variant,
    generator,
    plain_caption,
    render,
)
from tools.starter.scorer_recipe import DegradeSection, ScorerRecipe

Rng = np.random.Generator
_CHUNK = 256


@dataclass(frozen=True)
class Renderings:
    """Rendered training pictures: row r shows `subjects[subject[r]]` on `background[r]`."""

    inputs: FloatArray
    subject: npt.NDArray[np.int64]
    background: list[str]


def image_inputs(
    extractor: FeatureExtractor, images: Sequence[Pixels], thumbnail: int
) -> FloatArray:
    """[N,I]: what `edgekd.metrics.extractors.scorer.Scorer` feeds to the image tower."""
    return np.concatenate([*extractor.extract(images), thumbnails(images, thumbnail)], axis=1)


def degrade(image: Pixels, section: DegradeSection, rng: Rng) -> Pixels:
    """Rescale, blur, add noise and change the contrast, each with its own chance."""
    if rng.random() >= section.fraction:
        return image
    rescaled, blurred, noisy, contrasted = rng.random(4)
    picture, side = Image.fromarray(image), image.shape[0]
    if rescaled < 0.4:
        small = max(1, int(side * rng.uniform(section.min_rescale, 1)))
        picture = picture.resize((small, small), Image.Resampling.BILINEAR)
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    if blurred < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, section.max_blur_px)))
    values = np.asarray(picture, dtype=np.float64)
    if noisy < 0.5:
        values = values + rng.uniform(0, section.max_noise) * rng.normal(size=values.shape)
    if contrasted < 0.3:
        factor = rng.uniform(1 - section.contrast, 1 + section.contrast)
        values = (values - 128) * factor + 128
    return np.asarray(values.round().clip(0, 255), dtype=np.uint8)


def shifted_colors(backgrounds: dict[str, str], limit: int, rng: Rng) -> dict[str, str]:
    """The same names for slightly different colours."""
    result = {}
    for name, color in backgrounds.items():
        channels = np.array(ImageColor.getrgb(color)) + rng.integers(-limit, limit + 1, 3)
        red, green, blue = (int(c) for c in channels.clip(0, 255))
        result[name] = f"#{red:02x}{green:02x}{blue:02x}"
    return result


def scorer_variant(
    subject: Subject, recipe: ScorerRecipe, index: int, number: int
) -> tuple[Placement, Rng]:
    """How rendering `number` of subject `index` looks, and the generator for the rest of it."""
    rng = generator(recipe.seed, "scorer variant", index, number)
    return draw_variant(subject, recipe.data.augment, rng, plain=number == 0), rng


def render_variant(subject: Subject, recipe: ScorerRecipe, index: int, number: int) -> Pixels:
    """Rendering `number` of subject `index`; number 0 is clean and on white."""
    variant, rng = scorer_variant(subject, recipe, index, number)
    backgrounds = recipe.data.augment.backgrounds
    colors = shifted_colors(backgrounds, recipe.degrade.background_shift, rng)
    image = render(subject, variant, colors)
    return image if number == 0 else degrade(image, recipe.degrade, rng)


def renderings(corpus: Corpus, recipe: ScorerRecipe, work: Path, progress: Progress) -> Renderings:
    """Image inputs of all variants of the training subjects.

    Each variant is kept in `work` under the hash of all it depends on, so that a killed run
    continues where it was.
    """
    model, subjects = recipe.model, corpus.train
    sections = [recipe.data.augment, recipe.degrade]
    facts = [corpus.key, hash_file(FEATURES_ONNX), model.thumbnail, recipe.seed]
    key = hash_value([*facts, *(section.model_dump() for section in sections)])[:16]
    extractor = FeatureExtractor(threads=recipe.threads)
    inputs, backgrounds = [], []
    with progress.track("image inputs", recipe.train.variants * len(subjects)) as advance:
        for number in range(recipe.train.variants):
            path = work / f"inputs-{key}-{number}.npz"
            if not path.is_file():
                rows = []
                for start in range(0, len(subjects), _CHUNK):
                    chunk = range(start, min(start + _CHUNK, len(subjects)))
                    images = [render_variant(subjects[i], recipe, i, number) for i in chunk]
                    rows.append(image_inputs(extractor, images, model.thumbnail))
                    advance(len(images))
                _save(path, np.concatenate(rows).astype(np.float16))
            with np.load(path) as stored:
                inputs.append(stored["inputs"].astype(np.float32))
            drawn = (scorer_variant(s, recipe, i, number)[0] for i, s in enumerate(subjects))
            backgrounds += [variant.background for variant in drawn]
    order = np.tile(np.arange(len(subjects)), recipe.train.variants)
    return Renderings(np.concatenate(inputs), order, backgrounds)


def _save(path: Path, inputs: npt.NDArray[np.float16]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as stream:
        np.savez(stream, inputs=inputs)
    temporary.replace(path)


def train_tokenizer(corpus: Corpus, recipe: ScorerRecipe) -> Any:
    """A lower-case byte-pair tokenizer of the training subjects' words; id 0 pads, 1 is unknown."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    texts = [phrase for s in corpus.train for phrase in (plain_caption(s), *s.tags)]
    colors = [WHITE, *sorted(recipe.data.augment.backgrounds)]
    # Often enough for each colour to become one token.
    texts += [background_phrase(color) for color in colors] * 50
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.tokenizer.vocabulary,
        special_tokens=["[PAD]", "[UNK]"],
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.enable_padding(length=recipe.tokenizer.max_tokens)
    tokenizer.enable_truncation(recipe.tokenizer.max_tokens)
    return tokenizer


@dataclass(frozen=True)
class Batch:
    """`rows` of `Renderings`, their captions, and which captions are true of which rows."""

    rows: npt.NDArray[np.int64]
    captions: list[str]
    also_true: npt.NDArray[np.bool_]


class Sampler:
    """Batches of different labels with a few pictures each."""

    def __init__(self, corpus: Corpus, rendered: Renderings, recipe: ScorerRecipe) -> None:
        self._subjects = [corpus.train[i] for i in rendered.subject]
        self._backgrounds = rendered.background
        self._captions = recipe.data.captions
        self._train = recipe.train
        self._seed = recipe.seed
        self._rows: dict[str, list[int]] = {}
        for row, subject in enumerate(self._subjects):
            self._rows.setdefault(subject.label, []).append(row)
        self._labels = sorted(self._rows)

    def batch(self, step: int) -> Batch:
        """The batch of a step: the same one, whenever it is asked for."""
        rng = generator(self._seed, "scorer batch", step)
        count = min(self._train.labels, len(self._labels))
        chosen = rng.permutation(len(self._labels))[:count]
        rows = [
            own[int(i)]
            for own in (self._rows[self._labels[c]] for c in chosen)
            for i in rng.integers(0, len(own), self._train.images_per_label)
        ]
        captions = [self._caption(row, rng) for row in rows]
        subjects = [self._subjects[row] for row in rows]
        backgrounds = [self._backgrounds[row] for row in rows]
        return Batch(np.array(rows), captions, true_captions(subjects, backgrounds, captions))

    def _caption(self, row: int, rng: Rng) -> str:
        subject, background = self._subjects[row], self._backgrounds[row]
        if background == WHITE and rng.random() < self._train.plain_captions:
            return plain_caption(subject)
        return draw_caption(subject, background, self._captions, rng).text


def true_captions(
    subjects: Sequence[Subject], backgrounds: Sequence[str], captions: Sequence[str]
) -> npt.NDArray[np.bool_]:
    """[N,N]: caption (column) j says nothing that is false of picture (row) i.

    A picture without transparency has a background of its own, of which nothing is known.
    """
    labels = np.array([s.label for s in subjects])
    styles = np.array([s.style for s in subjects])
    pairs = list(zip(subjects, backgrounds, captions, strict=True))
    shown = np.array([b if s.transparent else "" for s, b, _ in pairs])
    said_style = np.array([_said(c, s.style, f"{s.style} style") for s, _, c in pairs])
    said_background = np.array([_said(c, b, background_phrase(b)) for _, b, c in pairs])
    same_label = labels[:, None] == labels[None]
    same_style = (said_style == "")[None] | (styles[:, None] == said_style[None])
    unknown = (said_background == "")[None] | (shown == "")[:, None]
    same_background = unknown | (shown[:, None] == said_background[None])
    return np.asarray(same_label & same_style & same_background)


def _said(caption: str, value: str, phrase: str) -> str:
    """`value` where the caption has the phrase as one of its parts, else ""."""
    return value if phrase in caption.split(", ") else ""
