"""The U-Net's loss: schedule, weights, timesteps."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from scipy import stats

from edgekd.diffusion.noise_schedule import build_scheduler
from edgekd.libraries import diffusers
from edgekd.resources import STARTER
from edgekd.teach.data import generator
from edgekd.teach.noise import CaptionBatch, NoisePredictor, draw_timesteps, low_snr_weights
from edgekd.teach.recipe import load_teach_recipe

TINY = Path(__file__).parents[2] / "tiny-teacher.yaml"


def test_scheduler_is_the_starters():
    first = diffusers.DDIMScheduler.from_pretrained(STARTER / "teacher" / "scheduler")
    ours = {k: v for k, v in build_scheduler().config.items() if not k.startswith("_")}
    assert ours == {k: v for k, v in first.config.items() if not k.startswith("_")}


def test_timesteps_are_stratified():
    section = load_teach_recipe(TINY).unet
    for number in range(5):
        drawn = draw_timesteps(10, section, generator(0, "t", number))
        assert sorted(drawn // 100) == list(range(10))


def test_timesteps_follow_the_logit_normal():
    overrides = ["unet.timestep_sampling=logit_normal", "unet.logit_mean=0.4", "unet.logit_std=1.5"]
    section = load_teach_recipe(TINY, overrides).unet
    drawn = np.concatenate([draw_timesteps(16, section, generator(0, "t", n)) for n in range(500)])
    logits = np.log((drawn + 0.5) / (1000 - drawn - 0.5))
    assert stats.kstest(logits, stats.norm(0.4, 1.5).cdf).statistic < 0.02
    assert drawn.min() >= 0
    assert drawn.max() <= 999


def test_low_snr_weights():
    alphas = build_scheduler().alphas_cumprod
    timesteps = torch.arange(1000)
    snr = alphas / (1 - alphas)
    assert (low_snr_weights(alphas, timesteps, 0.0) == 1).all()
    # Times the SNR it is the weight of the picture's error: truncated from below at 1.
    full = low_snr_weights(alphas, timesteps, 1.0)
    torch.testing.assert_close(full * snr, snr.clamp(min=1.0))
    torch.testing.assert_close(low_snr_weights(alphas, timesteps, 0.5), full.sqrt())


def test_predictor_weighs_the_squared_error_of_the_noise():
    modules = {
        "text_encoder": lambda ids: (ids.float(),),
        "unet": lambda noisy, timesteps, hidden: SimpleNamespace(sample=torch.zeros_like(noisy)),
    }
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([10, 500, 900])
    batch = CaptionBatch(latents, torch.zeros(3, 4, dtype=torch.long))
    predictor = NoisePredictor(5.0, 0.5, nullcontext)
    weighted, raw = predictor.losses(modules, batch, noise, timesteps)
    torch.testing.assert_close(raw, noise.square().mean(dim=(1, 2, 3)))
    alphas = build_scheduler().alphas_cumprod
    snr = (alphas / (1 - alphas))[timesteps]
    expected = torch.stack([5 / snr[0], snr[1] ** -0.5, snr[2] ** -0.5])
    torch.testing.assert_close(weighted / raw, expected)
