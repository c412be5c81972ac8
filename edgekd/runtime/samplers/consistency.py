"""Samplers of consistency students, on the timesteps of their distillation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError
from edgekd.runtime.noise_schedule import alphas_cumprod
from edgekd.runtime.samplers.predictions import epsilon_of, picture_at, picture_of
from edgekd.runtime.samplers.sampler import Draw, F32Array, Unscaled
from edgekd.runtime.scheduler_config import SchedulerConfig


def distilled_timesteps(config: SchedulerConfig, steps: int) -> npt.NDArray[np.int64]:
    """The timesteps [S] of a session: evenly among those that the student was distilled on.

    Raises:
        InputError: more steps than the student was distilled on.
    """
    original = config.original_inference_steps
    if not 1 <= steps <= original:
        raise InputError(
            f"`1 <= steps <= original_inference_steps={original}` must hold", f"steps={steps}"
        )
    skip = config.num_train_timesteps // original
    trained = (np.arange(1, original + 1) * skip - 1)[::-1]
    return trained[np.floor(np.linspace(0, original, steps, endpoint=False)).astype(np.int64)]


class Lcm(Unscaled):
    """Luo et al., "Latent Consistency Models" (arXiv 2310.04378), algorithm 3 (multistep
    consistency sampling)."""

    def __init__(self, config: SchedulerConfig, steps: int) -> None:
        self.config = config
        visited = distilled_timesteps(config, steps)
        self.timesteps = visited.astype(np.float32)
        self._alpha_bars = alphas_cumprod(config)[visited]

    def step(self, output: F32Array, x: F32Array, index: int, draw: Draw) -> F32Array:
        picture = picture_at(self.config, x, output, self._alpha_bars[index])
        c_skip, c_out = consistency_scalings(self.timesteps[index], self.config.timestep_scaling)
        denoised: F32Array = c_out * picture + c_skip * x
        if index == len(self.timesteps) - 1:
            return denoised
        following = self._alpha_bars[index + 1]
        return np.asarray(np.sqrt(following) * denoised + np.sqrt(1 - following) * draw())


def consistency_scalings(
    timestep: np.float32, scaling: float, sigma_data: float = 0.5
) -> tuple[np.float32, np.float32]:
    """c_skip and c_out, which make the model the identity at timestep 0.

    Song et al., "Consistency Models" (arXiv 2303.01469), appendix C, on scaled timesteps.
    """
    scaled = float(timestep) * scaling
    norm = scaled**2 + sigma_data**2
    return np.float32(sigma_data**2 / norm), np.float32(scaled / norm**0.5)


class Tcd(Unscaled):
    """Zheng et al., "Trajectory Consistency Distillation" (arXiv 2402.19159), algorithm 4
    (strategic stochastic sampling) with gamma 0, as diffusers' pipelines call it (`eta=0.0`): each
    step ends where the next begins, and no noise is added."""

    def __init__(self, config: SchedulerConfig, steps: int) -> None:
        self.config = config
        visited = distilled_timesteps(config, steps)
        self.timesteps = visited.astype(np.float32)
        self._alpha_bars = alphas_cumprod(config)[np.append(visited, 0)]

    def step(self, output: F32Array, x: F32Array, index: int, draw: Draw) -> F32Array:
        alpha_bar, following = self._alpha_bars[index], self._alpha_bars[index + 1]
        signal, noise = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
        picture = picture_of(self.config, x, output, signal, noise)
        epsilon = epsilon_of(self.config, x, output, signal, noise)
        return np.asarray(
            np.sqrt(following) * picture + np.sqrt(1 - following) * epsilon, np.float32
        )
