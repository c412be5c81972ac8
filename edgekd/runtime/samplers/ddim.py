"""Samplers on the model's own timesteps: DDIM and ancestral sampling."""

from __future__ import annotations

import numpy as np

from edgekd.runtime.noise_schedule import alphas_cumprod, rounded_timesteps
from edgekd.runtime.samplers.predictions import epsilon_of, picture_at
from edgekd.runtime.samplers.sampler import Draw, F32Array, Unscaled
from edgekd.runtime.scheduler_config import SchedulerConfig


class Ddim(Unscaled):
    """Song et al., "Denoising Diffusion Implicit Models" (arXiv 2010.02502), equation 12 with
    eta 0: no noise is added on the way."""

    def __init__(self, config: SchedulerConfig, steps: int) -> None:
        self.config = config
        visited = rounded_timesteps(config, steps)
        self.timesteps = visited.astype(np.float32)
        table = alphas_cumprod(config)
        previous = visited - config.num_train_timesteps // steps
        last = np.float32(1) if config.set_alpha_to_one else table[0]
        self._alpha_bars = table[visited]
        self._previous = np.where(previous >= 0, table[np.maximum(previous, 0)], last)

    def step(self, output: F32Array, x: F32Array, index: int, draw: Draw) -> F32Array:
        alpha_bar, previous = self._alpha_bars[index], self._previous[index]
        picture = picture_at(self.config, x, output, alpha_bar)
        epsilon = epsilon_of(self.config, x, output, np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar))
        return np.asarray(np.sqrt(previous) * picture + np.sqrt(1 - previous) * epsilon, np.float32)


class Ddpm(Unscaled):
    """Ho et al., "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239), algorithm 2, from
    each visited timestep to the next: equation 7 gives the mean and the small variance."""

    def __init__(self, config: SchedulerConfig, steps: int) -> None:
        self.config = config
        self._visited = rounded_timesteps(config, steps)
        self.timesteps = self._visited.astype(np.float32)
        self._alpha_bars = alphas_cumprod(config)[self._visited]
        self._previous = np.append(self._alpha_bars[1:], np.float32(1))

    def step(self, output: F32Array, x: F32Array, index: int, draw: Draw) -> F32Array:
        alpha_bar, previous = self._alpha_bars[index], self._previous[index]
        picture = picture_at(self.config, x, output, alpha_bar)
        alpha = alpha_bar / previous
        beta, noise, less_noise = 1 - alpha, 1 - alpha_bar, 1 - previous
        mean = np.sqrt(previous) * beta / noise * picture + np.sqrt(alpha) * less_noise / noise * x
        if self._visited[index] == 0:
            return np.asarray(mean, np.float32)
        # The floor keeps a logarithm finite in other variants; it is part of the sampler.
        small = max(less_noise / noise * beta, np.float32(1e-20))
        variance = beta if self.config.variance_type == "fixed_large" else small
        return np.asarray(mean + np.sqrt(variance) * draw(), np.float32)
