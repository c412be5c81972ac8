"""What a teacher's U-Net learns: the noise, weighted by how much of it there is.

Noise prediction (Ho et al. 2020, arXiv:2006.11239) on Stable Diffusion's schedule,
min-SNR weights (Hang et al. 2023, arXiv:2303.09556), more weight below SNR 1
(after Salimans and Ho 2022, arXiv:2202.00512). Timesteps are stratified over the
batch, from a uniform or a logit-normal distribution (Esser et al. 2024,
arXiv:2403.03206).

Shapes: latents and noise [B,C,h,w], timesteps [B], encoder_hidden_states [B,L,D].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from edgekd.diffusion.noise_schedule import build_scheduler
from edgekd.teach.recipe import UNetSection
from edgekd.training.min_snr import min_snr_weights


def low_snr_weights(alphas_cumprod: Tensor, timesteps: Tensor, power: float) -> Tensor:
    """max(1, 1 / SNR) ** power per sample; [B].

    Noise prediction weighs the error of the predicted picture by the SNR: the steps that decide
    by the caption what is drawn count least. With power 1 all below SNR 1 count alike, the
    truncated-SNR weight of Salimans and Ho (2022, arXiv:2202.00512).
    """
    alphas = alphas_cumprod[timesteps]
    return ((1 - alphas) / alphas).clamp(min=1.0).pow(power)


def draw_timesteps(
    count: int, section: UNetSection, rng: np.random.Generator, train_steps: int = 1000
) -> npt.NDArray[np.int64]:
    """Timesteps of one batch over all ranks: one of each of `count` equal shares of probability."""
    from scipy.special import expit, ndtri

    quantiles = (np.arange(count) + rng.random()) / count
    rng.shuffle(quantiles)
    if section.timestep_sampling == "logit_normal":
        quantiles = np.clip(quantiles, 1e-6, 1 - 1e-6)
        quantiles = expit(section.logit_mean + section.logit_std * ndtri(quantiles))
    return np.minimum((quantiles * train_steps).astype(np.int64), train_steps - 1)


class CaptionBatch(NamedTuple):
    """Scaled latents and token numbers."""

    latents: Tensor
    ids: Tensor


class NoisePredictor:
    """The weighted noise-prediction loss of a U-Net and a text encoder."""

    def __init__(
        self, gamma: float | None, low_snr_power: float, autocast: Callable[[], Any]
    ) -> None:
        self._gamma, self._power, self._autocast = gamma, low_snr_power, autocast
        self._scheduler = build_scheduler()

    def losses(
        self,
        modules: Mapping[str, Callable[..., Any]],
        batch: CaptionBatch,
        noise: Tensor,
        timesteps: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Weighted and raw squared error per sample, [B] each."""
        noisy = self._scheduler.add_noise(batch.latents, noise, timesteps)
        with self._autocast():
            hidden = modules["text_encoder"](batch.ids)[0]
            noise_pred = modules["unet"](noisy, timesteps, hidden).sample.float()
        errors = (noise_pred - noise).square().flatten(1).mean(dim=1)
        alphas = self._scheduler.alphas_cumprod.to(timesteps.device)
        snr = alphas[timesteps] / (1 - alphas[timesteps])
        weights = min_snr_weights(snr, self._gamma, "epsilon")
        weights = weights * low_snr_weights(alphas, timesteps, self._power)
        return weights * errors, errors
