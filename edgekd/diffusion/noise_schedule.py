"""The forward diffusion process of a teacher, read from its scheduler.

Shapes: B batch, [B, C, h, w] latents, [B] integer timesteps, [T] the schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseSchedule:
    """`x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise` (Ho et al. 2020, equation 4).

    Attributes:
        alphas_cumprod: [T] the a_t, fp32.
        prediction_type: what the U-Net predicts, `epsilon` or `v_prediction`.
    """

    alphas_cumprod: Tensor
    prediction_type: str

    @property
    def timesteps(self) -> int:
        """T, the number of training timesteps."""
        return int(self.alphas_cumprod.numel())

    def to(self, device: torch.device) -> NoiseSchedule:
        return NoiseSchedule(self.alphas_cumprod.to(device), self.prediction_type)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Noisy latents [B, C, h, w] at each sample's timestep."""
        signal, sigma = self._scales(timesteps)
        return signal * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the U-Net should predict, [B, C, h, w].

        The noise, or `v = sqrt(a_t) noise - sqrt(1 - a_t) x_0` (Salimans and Ho 2022, appendix D).
        """
        if self.prediction_type == "epsilon":
            return noise
        signal, sigma = self._scales(timesteps)
        return signal * noise - sigma * latents

    def ddim_step(self, latents: Tensor, prediction: Tensor, timestep: int, to: int) -> Tensor:
        """Latents [B, C, h, w] of timestep `to`, from those of `timestep` and what is predicted.

        `sqrt(a_to) x_0 + sqrt(1 - a_to) noise` with the predicted picture and noise (Song et al.
        2020, equation 12 with eta 0).

        Args:
            to: below 0 for the picture itself.
        """
        at = torch.tensor([timestep], device=latents.device)
        picture, noise = self.predicted(latents, prediction, at)
        if to < 0:
            return picture
        return self.add_noise(picture, noise, torch.tensor([to], device=latents.device))

    def predicted(
        self, latents: Tensor, prediction: Tensor, timesteps: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The picture x_0 and the noise that a prediction implies, both [B, C, h, w].

        From the noise: Ho et al. 2020, equation 15. From v: Salimans and Ho 2022, appendix D.
        """
        signal, sigma = self._scales(timesteps)
        if self.prediction_type == "epsilon":
            return (latents - sigma * prediction) / signal, prediction
        return signal * latents - sigma * prediction, sigma * latents + signal * prediction

    def snr(self, timesteps: Tensor) -> Tensor:
        """Signal-to-noise ratios `a_t / (1 - a_t)` [B]."""
        alphas = self.alphas_cumprod[timesteps]
        return alphas / (1.0 - alphas)

    def _scales(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        alphas = self.alphas_cumprod[timesteps][:, None, None, None]
        return alphas.sqrt(), (1.0 - alphas).sqrt()


def read_schedule(scheduler: Any) -> NoiseSchedule:
    """The noise schedule of a diffusers scheduler with `alphas_cumprod`."""
    return NoiseSchedule(
        scheduler.alphas_cumprod.detach().float().cpu().clone(), scheduler.config.prediction_type
    )


def build_scheduler() -> Any:
    """Stable Diffusion's noise schedule as a `DDIMScheduler`."""
    from edgekd.libraries import diffusers

    return diffusers.DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )
