"""Latents and image features of every rendering, computed once, memory-mapped afterwards.

Shapes: N subjects, V renderings of each: latents `float16 [N, V, C, h, w]`
(posterior means of the normalised autoencoder, unscaled), features
`float16 [N, V, 1280]`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.file_record import finish
from edgekd.files import atomic_file
from edgekd.folders import atomic_folder, finished
from edgekd.metrics.efficientnet import load_trunk
from edgekd.progress import Progress
from edgekd.teach.data import cached_variant, render, to_batch
from edgekd.teach.ranks import Ranks
from edgekd.teach.setup import TeachSetup

CHUNK_SUBJECTS = 64
FEATURE_RESOLUTION = 128
ARRAY_FILE = "array.npy"

Half = npt.NDArray[np.float16]
Encoder = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class CacheFolder:
    """Where an array is kept, and the hash of all that it is made of."""

    path: Path
    key: str


def build_cache(
    folder: CacheFolder, setup: TeachSetup, encoder: Encoder, ranks: Ranks, progress: Progress
) -> Half:
    """Encode all renderings of the training subjects, [N,V,...], chunks shared among the ranks.

    A killed run keeps its finished chunks.
    """
    final, key = folder.path, folder.key
    if finished(final, key) is None:
        count = len(setup.corpus.train)
        parts = final.with_name(f"{final.name}-{key[:16]}.parts")
        parts.mkdir(parents=True, exist_ok=True)
        starts = range(0, count, CHUNK_SUBJECTS)
        paths = [parts / f"{start:08d}.npy" for start in starts]
        with progress.track(f"{final.name} cache", count) as advance:
            for number, (start, path) in enumerate(zip(starts, paths, strict=True)):
                there = path.is_file()
                if number % ranks.count == ranks.rank and not there:
                    _write_chunk(path, _encode_chunk(start, setup, encoder))
                advance(min(CHUNK_SUBJECTS, count - start), resumed=there)
        ranks.wait()
        if ranks.first:
            with atomic_folder(final) as temporary:
                np.save(temporary / ARRAY_FILE, np.concatenate([np.load(p) for p in paths]))
                finish(temporary, key)
            for path in paths:
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # somebody else's file is in it
                parts.rmdir()
        ranks.wait()
    mapped: Half = np.load(final / ARRAY_FILE, mmap_mode="r")
    return mapped


def _encode_chunk(start: int, setup: TeachSetup, encoder: Encoder) -> Half:
    recipe, corpus = setup.recipe, setup.corpus
    section = recipe.data.augment
    rows = []
    for index in range(start, min(start + CHUNK_SUBJECTS, len(corpus.train))):
        subject = corpus.train[index]
        variants = [
            cached_variant(subject, section, recipe.seed, index, number)
            for number in range(section.variants)
        ]
        images = to_batch([render(subject, v, section.backgrounds) for v in variants])
        with torch.no_grad():
            rows.append(encoder(images).float().cpu().numpy().astype(np.float16))
    return np.stack(rows)


def _write_chunk(path: Path, chunk: Half) -> None:
    with atomic_file(path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, chunk)


def latent_encoder(vae: Any, device: torch.device) -> Encoder:
    """Images in [-1,1] to posterior means, unscaled."""

    def encode(images: Tensor) -> Tensor:
        mean: Tensor = vae.encode(images.to(device)).latent_dist.mean
        return mean

    return encode


def feature_encoder(device: torch.device) -> Encoder:
    """Images in [-1,1] to pooled features, at the feature extractor's resolution."""
    trunk = load_trunk().to(device)

    def encode(images: Tensor) -> Tensor:
        size = (FEATURE_RESOLUTION, FEATURE_RESOLUTION)
        resized = F.interpolate(images.to(device), size, mode="bicubic", antialias=True)
        pooled: Tensor = trunk(resized.clamp(-1, 1)).pooled
        return pooled

    return encode
