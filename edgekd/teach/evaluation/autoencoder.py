"""A teacher's autoencoder: what it loses on images it has not seen.

Images are uint8 [N,H,W,3]; PSNR in dB, SSIM as in `edgekd.teach.vae`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.benchmark.cache import Cache
from edgekd.teach.data import Corpus, Subject, to_batch
from edgekd.teach.evaluation.images import Images, cached_arrays, on_white_and_colour
from edgekd.teach.evaluation.prompts import HELD_OUT, of_kind
from edgekd.teach.recipe import TeachRecipe

Doubles = npt.NDArray[np.float64]
BATCH = 32
SHOWN = 16


@dataclass(frozen=True)
class Autoencoder:
    """The VAE of a teacher folder; reconstructions are kept in the cache."""

    teacher: Path
    key: str
    cache: Cache

    @cached_property
    def _vae(self) -> Any:
        from edgekd.diffusion.load import load_teacher

        return load_teacher(self.teacher).vae

    def reconstruct(self, images: Images) -> Images:
        """What comes back from the posterior means, as 8-bit images."""
        arrays = cached_arrays(self.cache, "reconstructions", self.key, images, self._decoded)
        return np.asarray(arrays["images"], dtype=np.uint8)

    def _decoded(self, images: Images) -> dict[str, Images]:
        import torch

        parts = []
        with torch.inference_mode():
            for start in range(0, len(images), BATCH):
                batch = to_batch(list(images[start : start + BATCH]))
                decoded = self._vae.decode(self._vae.encode(batch).latent_dist.mean).sample
                pixels = ((decoded.clamp(-1, 1) + 1) * 127.5).round().byte()
                parts.append(pixels.permute(0, 2, 3, 1).numpy())
        return {"images": np.concatenate(parts)}


def quality(images: Images, decoded: Images) -> tuple[Doubles, Doubles]:
    """PSNR in dB and SSIM of each pair, [N] each."""
    from edgekd.teach.vae import ssim
    from edgekd.training.images import psnr_db

    similarity, ratio = [], []
    for start in range(0, len(images), BATCH):
        a = to_batch(list(images[start : start + BATCH]))
        b = to_batch(list(decoded[start : start + BATCH]))
        ratio.append(psnr_db(b, a).double().numpy())
        similarity.append(ssim(b, a).double().numpy())
    return np.concatenate(ratio), np.concatenate(similarity)


def detail(images: Images) -> Doubles:
    """Mean squared Laplacian of the luminance, [N]: large where there are thin lines and text."""
    grey = images.astype(np.float64).mean(axis=3)
    centre = grey[:, 1:-1, 1:-1]
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return np.asarray(((4 * centre - around) ** 2).mean(axis=(1, 2)))


@dataclass(frozen=True)
class Pairs:
    """Images above their reconstructions, for a sheet."""

    images: Images
    decoded: Images


def measure_autoencoder(
    corpus: Corpus, recipe: TeachRecipe, autoencoder: Autoencoder
) -> tuple[dict[str, Any], dict[str, Pairs]]:
    """Figures of each held-out kind, and the worst and the most detailed images of new labels."""
    figures: dict[str, Any] = {}
    pairs: dict[str, Pairs] = {}
    for kind in HELD_OUT:
        shown = on_white_and_colour(of_kind(corpus, kind), recipe, f"autoencoder-{kind}")
        images, subjects, white = shown.images, shown.subjects, shown.white
        decoded = autoencoder.reconstruct(images)
        ratio, similarity = quality(images, decoded)
        finest = np.argsort(-detail(images), kind="stable")[: max(SHOWN, len(images) // 10)]
        figures[kind] = {
            "images": len(images),
            **_summary(ratio, similarity),
            "on_white": _part(ratio, similarity, np.flatnonzero(white)),
            "on_colors": _part(ratio, similarity, np.flatnonzero(~white)),
            "finest_tenth": _part(ratio, similarity, finest),
        }
        if kind == "new_label":
            worst = np.argsort(ratio, kind="stable")[:SHOWN]
            for name, rows in (("worst", worst), ("finest", finest[:SHOWN])):
                figures[kind][name] = _named(subjects, ratio, rows)
                pairs[name] = Pairs(images[rows], decoded[rows])
    return figures, pairs


def _part(ratio: Doubles, similarity: Doubles, rows: npt.NDArray[np.intp]) -> dict[str, Any]:
    return {"images": len(rows), **_summary(ratio[rows], similarity[rows])}


def _summary(ratio: Doubles, similarity: Doubles) -> dict[str, float]:
    return {
        "psnr_db": float(ratio.mean()),
        "psnr_p10_db": float(np.quantile(ratio, 0.1)),
        "ssim": float(similarity.mean()),
        "ssim_p10": float(np.quantile(similarity, 0.1)),
    }


def _named(
    subjects: Sequence[Subject], ratio: Doubles, rows: npt.NDArray[np.intp]
) -> list[dict[str, Any]]:
    return [
        {
            "label": subjects[row].label,
            "style": subjects[row].style,
            "psnr_db": round(float(ratio[row]), 2),
        }
        for row in rows.tolist()
    ]
