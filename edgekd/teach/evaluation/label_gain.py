"""How much a U-Net makes of the label in a caption: a figure that moves early in training.

Retrieval of drawn pictures stays at chance while words are being learned, and needs hundreds of
pictures. The share of the noise-prediction error that the label takes away at noisy timesteps
needs two U-Net calls for each image, has the same noise for every teacher, and is 0 for a U-Net
that does not listen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from edgekd.teach.cache import Encoder
from edgekd.teach.data import (
    WHITE,
    Corpus,
    Placement,
    Subject,
    generator,
    plain_caption,
    render,
    to_batch,
)
from edgekd.teach.evaluation.prompts import shuffled
from edgekd.teach.noise import CaptionBatch, NoisePredictor
from edgekd.teach.recipe import TeachRecipe
from edgekd.teach.text import tokenize

# Below 600 the noisy picture itself shows what it is of.
TIMESTEPS = (600, 800, 900)
IMAGES = 256
BATCH = 32


@torch.no_grad()
def label_gains(
    modules: Mapping[str, Any],
    predictor: NoisePredictor,
    recipe: TeachRecipe,
    corpus: Corpus,
    scaling_factor: float,
    encode: Encoder,
    tokenizer: Any,
    device: torch.device,
) -> dict[str, float]:
    """1 - error with `label, style` / error with the style alone, of training images on white.

    Args:
        modules: `unet` and `text_encoder`, as `NoisePredictor.losses` takes them.

    Returns:
        One figure for each of `TIMESTEPS`: at most 1, below 0 where labels mislead.
    """
    subjects = shuffled(recipe.seed, "label-gain", corpus.train)[:IMAGES]
    errors = torch.zeros(len(TIMESTEPS), 2, dtype=torch.float64)
    for start in range(0, len(subjects), BATCH):
        chosen = subjects[start : start + BATCH]
        images = [render(s, Placement(WHITE), recipe.data.augment.backgrounds) for s in chosen]
        latents = encode(to_batch(images)) * scaling_factor
        noise = torch.from_numpy(
            generator(recipe.seed, "label-gain-noise", start).standard_normal(
                tuple(latents.shape), dtype="float32"
            )
        )
        for column, captions in enumerate(_captions(chosen)):
            batch = CaptionBatch(latents.to(device), tokenize(tokenizer, captions).to(device))
            for row, timestep in enumerate(TIMESTEPS):
                timesteps = torch.full((len(chosen),), timestep, device=device)
                _, raw = predictor.losses(modules, batch, noise.to(device), timesteps)
                errors[row, column] += raw.double().sum().cpu()
    gains = (1 - errors[:, 0] / errors[:, 1]).tolist()
    return {str(timestep): gain for timestep, gain in zip(TIMESTEPS, gains, strict=True)}


def _captions(subjects: list[Subject]) -> tuple[list[str], list[str]]:
    """With and without the label."""
    return [plain_caption(s) for s in subjects], [f"{s.style} style" for s in subjects]
