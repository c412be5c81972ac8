"""Images that an evaluation measures, uint8 [N,H,W,3], and what is computed from them once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.benchmark.cache import Cache
from edgekd.teach.data import WHITE, Placement, Subject, generator, render
from edgekd.teach.recipe import TeachRecipe

Images = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]


def cached_arrays(
    cache: Cache, kind: str, key: str, images: Images, compute: Callable[[Images], dict[str, Any]]
) -> dict[str, Any]:
    """What `compute` makes of these images, kept by their content; `key`: all else it hangs on."""
    content = hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
    return cache.tensors(kind, [key, list(images.shape), content], lambda: compute(images))


@dataclass(frozen=True)
class Renderings:
    """Real images with what they show."""

    images: Images
    subjects: list[Subject]
    backgrounds: list[str]

    @property
    def styles(self) -> list[str]:
        return [subject.style for subject in self.subjects]

    @property
    def transparent(self) -> Flags:
        return np.array([subject.transparent for subject in self.subjects])

    @property
    def white(self) -> Flags:
        return np.array([background == WHITE for background in self.backgrounds])


def on_white_and_colour(
    subjects: Sequence[Subject], recipe: TeachRecipe, purpose: str
) -> Renderings:
    """Each subject on white and, where it is transparent, on one coloured background by lot."""
    shades = recipe.data.augment.backgrounds
    images, shown, backgrounds = [], [], []
    for index, subject in enumerate(subjects):
        rng = generator(recipe.evaluate.seed, purpose, index)
        colored = [str(rng.choice(sorted(shades)))] if subject.transparent else []
        for background in (WHITE, *colored):
            images.append(render(subject, Placement(background), shades))
            shown.append(subject)
            backgrounds.append(background)
    return Renderings(np.stack(images), shown, backgrounds)
