"""Linear probes for style and background, fitted on real training images.

Pooled features tell neither well: they are made to see what is shown, whatever
its manner. So each probe has a feature of its own. Style: second moments of the
trunk's three finest levels (Gram matrices, Gatys et al. 2016, CVPR) beside a
histogram of colours, since each style has its palette. Background: the median
colour of the outermost pixels. What a probe reaches on held-out real images is
the ceiling of all its figures.

Shapes: images uint8 [N,H,W,3]; features float32 [N,D].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.benchmark.cache import Cache
from edgekd.files import hash_tree
from edgekd.metrics.features import FloatArray, resize
from edgekd.resources import STARTER
from edgekd.teach.data import Corpus, to_batch
from edgekd.teach.evaluation.images import Images, Renderings, cached_arrays, on_white_and_colour
from edgekd.teach.evaluation.prompts import Prompt, known_labels
from edgekd.teach.evaluation.schema import Accuracy, BackgroundFigures, Ceilings, StyleFigures
from edgekd.teach.recipe import TeachRecipe

STYLE_SIDE = 128
LEVELS = 3
COLOR_STEPS = 12
# Chosen on held-out real images before any teacher was measured.
COLOR_WEIGHT = 40.0
STYLE_C, BACKGROUND_C = 0.001, 100.0
BATCH = 32


def gram_features(images: Images, trunk: Any) -> FloatArray:
    """Signed square roots of the levels' second moments over positions, upper triangles."""
    import torch

    rows = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            batch = to_batch([resize(x, STYLE_SIDE) for x in images[start : start + BATCH]])
            parts = []
            for level in trunk(batch).maps[:LEVELS]:
                flat = level.flatten(2)
                moments = flat @ flat.transpose(1, 2) / flat.shape[2]
                upper = torch.triu_indices(moments.shape[1], moments.shape[1])
                values = moments[:, upper[0], upper[1]]
                parts.append(values.sign() * values.abs().sqrt())
            rows.append(torch.cat(parts, dim=1).numpy())
    return np.concatenate(rows)


def color_histogram(images: Images) -> FloatArray:
    """Square roots of the shares of 12x12x12 colours, [N,1728]."""
    rows = []
    for image in images:
        red, green, blue = (image.reshape(-1, 3).astype(np.int64) * COLOR_STEPS // 256).T
        bins = (red * COLOR_STEPS + green) * COLOR_STEPS + blue
        rows.append(np.bincount(bins, minlength=COLOR_STEPS**3) / len(bins))
    return np.asarray(np.sqrt(np.stack(rows)), dtype=np.float32)


def border_color(images: Images) -> FloatArray:
    """Median colour of the outermost pixels, [N,3] in [0,1]."""
    edges = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
    return np.asarray(np.median(np.concatenate(edges, axis=1), axis=1) / 255, dtype=np.float32)


@dataclass(frozen=True)
class StyleFeatures:
    """Both style features side by side, kept in the cache by the images' content."""

    cache: Cache
    _key: str = field(default_factory=lambda: hash_tree(STARTER / "scorers"))

    @cached_property
    def _trunk(self) -> Any:
        from edgekd.metrics.efficientnet import load_trunk

        return load_trunk()

    def __call__(self, images: Images) -> tuple[FloatArray, FloatArray]:
        """Gram features and colour histogram."""
        arrays = cached_arrays(self.cache, "style", self._key, images, self._compute)
        return arrays["gram"], arrays["colors"]

    def _compute(self, images: Images) -> dict[str, Any]:
        return {"gram": gram_features(images, self._trunk), "colors": color_histogram(images)}


class Probes:
    """Both probes, fitted.

    Args:
        known: real training images.
    """

    def __init__(self, known: Renderings, features: StyleFeatures) -> None:
        from sklearn.linear_model import LogisticRegression

        self._features = features
        self._fitted_on = len(known.images)
        gram, colors = features(known.images)
        self._deviation = gram.std(axis=0) + 1e-6
        self._style = LogisticRegression(C=STYLE_C, max_iter=1000)
        self._style.fit(self._joined(gram, colors), known.styles)
        seen = known.transparent
        self._background = LogisticRegression(C=BACKGROUND_C, max_iter=1000)
        self._background.fit(
            border_color(known.images)[seen],
            [name for name, shown in zip(known.backgrounds, seen, strict=True) if shown],
        )

    def _joined(self, gram: FloatArray, colors: FloatArray) -> FloatArray:
        return np.concatenate([gram / self._deviation, COLOR_WEIGHT * colors], axis=1)

    def styles(self, images: Images) -> list[str]:
        """The most likely style of each image."""
        return [str(name) for name in self._style.predict(self._joined(*self._features(images)))]

    def backgrounds(self, images: Images) -> list[str]:
        """The most likely background of each image."""
        return [str(name) for name in self._background.predict(border_color(images))]

    def style_figures(self, images: Images, prompts: Sequence[Prompt]) -> StyleFigures:
        """Accuracy over all prompts, and for each style."""
        wanted = [prompt.subject.style for prompt in prompts]
        hits = np.array(self.styles(images)) == np.array(wanted)
        return StyleFigures(accuracy=float(hits.mean()), prompts=len(hits), by=by(wanted, hits))

    def background_figures(self, images: Images, prompts: Sequence[Prompt]) -> BackgroundFigures:
        """Accuracy over prompts that name a background, for each of them, and where none is named.

        What is not named is meant to be white.
        """
        shown = np.array([prompt.subject.transparent for prompt in prompts], np.bool_)
        named = np.array([prompt.named for prompt in prompts], np.bool_)
        wanted = np.array([prompt.background for prompt in prompts])
        hits = np.array(self.backgrounds(images)) == wanted
        silent = hits[shown & ~named]
        return BackgroundFigures(
            accuracy=float(hits[named].mean()) if named.any() else None,
            prompts=int(named.sum()),
            by=by(wanted[named].tolist(), hits[named]),
            unnamed_accuracy=float(silent.mean()) if len(silent) else None,
            unnamed_prompts=len(silent),
        )

    def ceilings(self, held_out: Renderings) -> Ceilings:
        """Accuracy on held-out real images."""
        hits = np.array(self.styles(held_out.images)) == np.array(held_out.styles)
        seen = held_out.transparent
        found = np.array(self.backgrounds(held_out.images)) == np.array(held_out.backgrounds)
        backgrounds = np.array(held_out.backgrounds)[seen].tolist()
        return Ceilings(
            fitted_on=self._fitted_on,
            style=Accuracy(accuracy=float(hits.mean()), by=by(held_out.styles, hits)),
            background=Accuracy(
                accuracy=float(found[seen].mean()), by=by(backgrounds, found[seen])
            ),
            images=len(held_out.images),
        )


def by(names: Sequence[str], hits: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Accuracy for each name."""
    array = np.array(names)
    return {str(name): float(hits[array == name].mean()) for name in sorted(set(names))}


def fit_probes(corpus: Corpus, recipe: TeachRecipe, cache: Cache) -> tuple[Probes, Ceilings]:
    """The probes, and how they do on held-out real images.

    They are fitted on labels that no prompt of known pairs has, so that the real images of
    these prompts are new to them too.
    """
    prompted = set(known_labels(corpus, recipe))
    others = [subject for subject in corpus.train if subject.label not in prompted]
    known = on_white_and_colour(others, recipe, "probe-known")
    probes = Probes(known, StyleFeatures(cache))
    held_out = on_white_and_colour(corpus.validation, recipe, "probe-held-out")
    return probes, probes.ceilings(held_out)
