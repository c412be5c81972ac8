"""The share of the noise-prediction error that labels take away, with U-Nets of known error."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from edgekd.diffusion.noise_schedule import build_scheduler
from edgekd.teach.data import Corpus
from edgekd.teach.evaluation.label_gain import TIMESTEPS, label_gains
from edgekd.teach.noise import NoisePredictor
from edgekd.teach.recipe import TeachRecipe

ALPHAS = build_scheduler().alphas_cumprod


def tokenizer(captions: list[str], **options: object) -> SimpleNamespace:
    """The number of commas: `label, style` has one more than the style alone."""
    return SimpleNamespace(input_ids=torch.tensor([[c.count(",")] for c in captions]))


def gains(recipe: TeachRecipe, corpus: Corpus, share: Callable[[Tensor], Tensor]) -> list[float]:
    """Gains of a U-Net that predicts `share(hidden)` of the noise; latents are zero."""

    def unet(noisy: Tensor, timesteps: Tensor, hidden: Tensor) -> SimpleNamespace:
        noise = noisy / (1 - ALPHAS[timesteps]).sqrt().view(-1, 1, 1, 1)
        return SimpleNamespace(sample=share(hidden).view(-1, 1, 1, 1) * noise)

    off = torch.autocast("cpu", enabled=False)
    found = label_gains(
        {"unet": unet, "text_encoder": lambda ids: (ids.float(),)},
        NoisePredictor(None, 0.0, lambda: off),
        recipe,
        corpus,
        1.0,
        lambda images: torch.zeros(len(images), 4, 8, 8),
        tokenizer,
        torch.device("cpu"),
    )
    assert list(found) == [str(timestep) for timestep in TIMESTEPS]
    return list(found.values())


def test_the_share_is_of_the_squared_error(recipe, corpus):
    # Half of the noise is predicted with the label and none without: a quarter of the error stays.
    assert gains(recipe, corpus, lambda hidden: 0.5 * hidden) == pytest.approx([0.75] * 3, rel=1e-5)


def test_labels_that_mislead_count_below_zero(recipe, corpus):
    assert gains(recipe, corpus, lambda hidden: -hidden) == pytest.approx([-3.0] * 3, rel=1e-5)


def test_a_unet_that_does_not_listen_gains_nothing(recipe, corpus):
    assert gains(recipe, corpus, lambda hidden: 0.3 + 0 * hidden) == [0.0] * 3
