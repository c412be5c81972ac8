"""The samplers that students use, as plain equations on arrays.

x: latents [B,c,h,w] at one noise level, float32; output: what the U-Net predicts for them, same
shape. alpha_bar: share of the picture's variance left at a level (arXiv 2006.11239); sigma:
standard deviation of the noise over the picture's scale, sqrt((1 - alpha_bar) / alpha_bar)
(Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models",
arXiv 2206.00364).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError
from edgekd.runtime.noise_schedule import alphas_cumprod, spaced_timesteps
from edgekd.runtime.scheduler_config import SchedulerConfig

F32Array = npt.NDArray[np.float32]
Draw = Callable[[], F32Array]  # fresh standard normal noise of the latents' shape


class Scheduler(Protocol):
    """One session of S steps.

    Attributes:
        timesteps: what the U-Net is told at each step, float32 [S].
        initial_scale: standard deviation of the latents that the session starts from.
    """

    timesteps: F32Array
    initial_scale: float

    def model_input(self, x: F32Array, index: int) -> F32Array:
        """The latents as the U-Net wants them at step `index`."""

    def step(self, output: F32Array, x: F32Array, index: int, draw: Draw) -> F32Array:
        """The latents after step `index`; `draw` is called where the sampler adds noise."""


def make_scheduler(config: SchedulerConfig, steps: int) -> Scheduler:
    """A session of `steps` steps.

    Raises:
        InputError: the scheduler cannot take this many steps.
    """
    classes: dict[str, Callable[[SchedulerConfig, int], Scheduler]] = {
        "DDIMScheduler": Ddim,
        "LCMScheduler": Lcm,
        "EulerDiscreteScheduler": Euler,
        "EulerAncestralDiscreteScheduler": EulerAncestral,
    }
    return classes[config.name](config, steps)


def predicted_picture(
    config: SchedulerConfig, x: F32Array, output: F32Array, alpha_bar: np.float32
) -> F32Array:
    """The noise-free latents that an output implies, clipped where the config says so.

    From epsilon: arXiv 2006.11239, equation 15. From v: Salimans and Ho, "Progressive
    Distillation for Fast Sampling of Diffusion Models" (arXiv 2202.00512), appendix D.
    """
    signal, noise = np.sqrt(alpha_bar), np.sqrt(np.float32(1) - alpha_bar)
    if config.prediction_type == "epsilon":
        picture = (x - noise * output) / signal
    else:
        picture = signal * x - noise * output
    if config.clip_sample:
        picture = np.clip(picture, -config.clip_sample_range, config.clip_sample_range)
    return np.asarray(picture, np.float32)


class Ddim:
    """Song et al., "Denoising Diffusion Implicit Models" (arXiv 2010.02502), equation 12 with
    eta 0: no noise is added on the way."""

    initial_scale = 1.0

    def __init__(self, config: SchedulerConfig, steps: int) -> None:
        self.config = config
        visited = np.round(_fractions(config, steps)).astype(np.int64)
        self.timesteps = visited.astype(np.float32)
        table = alphas_cumprod(config)
        previous = visited - config.num_train_timesteps // steps
        last = np.float32(1) if config.set_alpha_to_one else table[0]
        self._alpha_bars = table[visited]
        self._previous = np.where(previous >= 0, table[np.maximum(previous, 0)], last)

    def model_input(self, x: F32Array, index: int) -> F32Array:
        return x

    def step(self, output: F32Array, x: F32Array, index: int, draw: Draw) -> F32Array:
        alpha_bar, previous = self._alpha_bars[index], self._previous[index]
        picture = predicted_picture(self.config, x, output, alpha_bar)
        epsilon = output
        if self.config.prediction_type == "v_prediction":
            epsilon = np.sqrt(alpha_bar) * output + np.sqrt(1 - alpha_bar) * x
        return np.asarray(np.sqrt(previous) * picture + np.sqrt(1 - previous) * epsilon, np.float32)


def _fractions(config: SchedulerConfig, steps: int) -> npt.NDArray[np.float64]:
    """Timesteps to round: in double, where single precision could fall on the other side."""
    if config.timestep_spacing == "linspace" and 1 <= steps <= config.num_train_timesteps:
        return np.linspace(0, config.num_train_timesteps - 1, steps)[::-1]
    return spaced_timesteps(config, steps)


class Lcm:
    """Luo et al., "Latent Consistency Models" (arXiv 2310.04378), algorithm 3 (multistep
    consistency sampling) on the timesteps of the distillation's own schedule."""

    initial_scale = 1.0

    def __init__(self, config: SchedulerConfig, steps: int) -> None:
        original = config.original_inference_steps
        if not 1 <= steps <= original:
            raise InputError(
                f"`1 <= steps <= original_inference_steps={original}` must hold", f"steps={steps}"
            )
        self.config = config
        skip = config.num_train_timesteps // original
        trained = (np.arange(1, original + 1) * skip - 1)[::-1]
        visited = trained[np.floor(np.linspace(0, original, steps, endpoint=False)).astype(int)]
        self.timesteps = visited.astype(np.float32)
        self._alpha_bars = alphas_cumprod(config)[visited]

    def model_input(self, x: F32Array, index: int) -> F32Array:
        return x

    def step(self, output: F32Array, x: F32Array, index: int, draw: Draw) -> F32Array:
        picture = predicted_picture(self.config, x, output, self._alpha_bars[index])
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


class Euler:
    """Euler's method on the probability-flow ODE: arXiv 2206.00364, algorithm 2 without churn."""

    def __init__(self, config: SchedulerConfig, steps: int) -> None:
        self.config = config
        table = alphas_cumprod(config)
        if config.rescale_betas_zero_snr:
            table[-1] = 2**-24  # all but zero: the first sigma must not be infinite
        levels = np.sqrt((np.float32(1) - table) / table)
        visited = spaced_timesteps(config, steps)
        last = levels[0] if config.final_sigmas_type == "sigma_min" else 0.0
        sigmas = np.append(np.interp(visited, np.arange(len(levels)), levels), last)
        self.sigmas = sigmas.astype(np.float32)
        self.timesteps = visited.astype(np.float32)
        largest = self.sigmas.max()
        # `leading` starts below the last level, where the picture's own variance still shows.
        leading = config.timestep_spacing == "leading"
        self.initial_scale = float(np.sqrt(largest**2 + 1) if leading else largest)

    def model_input(self, x: F32Array, index: int) -> F32Array:
        return np.asarray(x / np.sqrt(self.sigmas[index] ** 2 + 1))

    def step(self, output: F32Array, x: F32Array, index: int, draw: Draw) -> F32Array:
        return self._move(output, x, index, self.sigmas[index + 1])

    def _move(self, output: F32Array, x: F32Array, index: int, target: np.float32) -> F32Array:
        """One step of the ODE dx/dsigma = (x - picture) / sigma, down to sigma `target`."""
        sigma = self.sigmas[index]
        if self.config.prediction_type == "epsilon":
            picture = x - sigma * output
        else:
            variance = sigma**2 + 1
            picture = output * (-sigma / np.sqrt(variance)) + x / variance
        return np.asarray(x + (x - picture) / sigma * (target - sigma), np.float32)


class EulerAncestral(Euler):
    """Euler's method to a level below the next one, then noise up to it: the ancestral sampling
    of arXiv 2006.11239 in terms of sigma (K. Crowson, k-diffusion, `sample_euler_ancestral`)."""

    def step(self, output: F32Array, x: F32Array, index: int, draw: Draw) -> F32Array:
        sigma, following = self.sigmas[index], self.sigmas[index + 1]
        up = np.sqrt(following**2 * (sigma**2 - following**2) / sigma**2)
        down = np.sqrt(following**2 - up**2)
        # Noise is drawn at the last step too, times zero: the generator's state is part of the
        # sampler's result.
        return np.asarray(self._move(output, x, index, down) + draw() * up, np.float32)
