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
from edgekd.teach.evaluation.images import (
    Flags,
    Images,
    cached_arrays,
    on_white_and_colour,
)
from edgekd.teach.evaluation.prompts import of_kind
from edgekd.teach.evaluation.schema import (
    AutoencoderFigures,
    HeldOutReconstruction,
    NamedImage,
    Reconstruction,
    ShownReconstruction,
)
from edgekd.teach.recipe import Kind, TeachRecipe

Doubles = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
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


@dataclass(frozen=True)
class Reconstructed:
    """Held-out images of one kind with what came back, PSNR in dB and SSIM of each."""

    images: Images
    subjects: Sequence[Subject]
    white: Flags
    decoded: Images
    psnr_db: Doubles
    ssim: Doubles

    @cached_property
    def finest(self) -> Rows:
        """The most detailed tenth, at least as many as a sheet shows."""
        count = max(SHOWN, len(self.images) // 10)
        return np.argsort(-detail(self.images), kind="stable")[:count]

    def figures(self) -> HeldOutReconstruction:
        whole = self._part(np.arange(len(self.images)))
        return HeldOutReconstruction(
            **dict(whole),
            on_white=self._part(np.flatnonzero(self.white)),
            on_colors=self._part(np.flatnonzero(~self.white)),
            finest_tenth=self._part(self.finest),
        )

    def named(self, rows: Rows) -> list[NamedImage]:
        return [
            NamedImage(
                label=self.subjects[row].label,
                style=self.subjects[row].style,
                psnr_db=round(float(self.psnr_db[row]), 2),
            )
            for row in rows.tolist()
        ]

    def _part(self, rows: Rows) -> Reconstruction:
        ratio, similarity = self.psnr_db[rows], self.ssim[rows]
        return Reconstruction(
            images=len(rows),
            psnr_db=float(ratio.mean()),
            psnr_p10_db=float(np.quantile(ratio, 0.1)),
            ssim=float(similarity.mean()),
            ssim_p10=float(np.quantile(similarity, 0.1)),
        )


def measure_autoencoder(
    corpus: Corpus, recipe: TeachRecipe, autoencoder: Autoencoder
) -> tuple[AutoencoderFigures, dict[str, Pairs]]:
    """Figures of each held-out kind, and the worst and the most detailed images of new labels."""
    styles = _reconstruct(corpus, recipe, "new_style", autoencoder)
    labels = _reconstruct(corpus, recipe, "new_label", autoencoder)
    shown = {
        "worst": np.argsort(labels.psnr_db, kind="stable")[:SHOWN],
        "finest": labels.finest[:SHOWN],
    }
    figures = AutoencoderFigures(
        new_style=styles.figures(),
        new_label=ShownReconstruction(
            **dict(labels.figures()),
            worst=labels.named(shown["worst"]),
            finest=labels.named(shown["finest"]),
        ),
    )
    pairs = {name: Pairs(labels.images[rows], labels.decoded[rows]) for name, rows in shown.items()}
    return figures, pairs


def _reconstruct(
    corpus: Corpus, recipe: TeachRecipe, kind: Kind, autoencoder: Autoencoder
) -> Reconstructed:
    shown = on_white_and_colour(of_kind(corpus, kind), recipe, f"autoencoder-{kind}")
    decoded = autoencoder.reconstruct(shown.images)
    return Reconstructed(
        shown.images, shown.subjects, shown.white, decoded, *quality(shown.images, decoded)
    )
