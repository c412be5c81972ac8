"""What an output of the U-Net says of picture and noise: x = signal * picture + noise * epsilon.

From epsilon: arXiv 2006.11239, equation 15. From v = signal * epsilon - noise * picture: Salimans
and Ho, "Progressive Distillation for Fast Sampling of Diffusion Models" (arXiv 2202.00512),
appendix D.
"""

from __future__ import annotations

import numpy as np

from edgekd.runtime.samplers.sampler import F32Array
from edgekd.runtime.scheduler_config import SchedulerConfig


def picture_of(
    config: SchedulerConfig, x: F32Array, output: F32Array, signal: np.float32, noise: np.float32
) -> F32Array:
    """The noise-free latents that an output implies."""
    if config.prediction_type == "epsilon":
        return np.asarray((x - noise * output) / signal, np.float32)
    return np.asarray(signal * x - noise * output, np.float32)


def epsilon_of(
    config: SchedulerConfig, x: F32Array, output: F32Array, signal: np.float32, noise: np.float32
) -> F32Array:
    """The noise that an output implies."""
    if config.prediction_type == "epsilon":
        return output
    return np.asarray(signal * output + noise * x, np.float32)


def clipped(config: SchedulerConfig, picture: F32Array) -> F32Array:
    """A predicted picture, cut off where the config says so."""
    if not config.clip_sample:
        return picture
    return np.clip(picture, -config.clip_sample_range, config.clip_sample_range)


def picture_at(
    config: SchedulerConfig, x: F32Array, output: F32Array, alpha_bar: np.float32
) -> F32Array:
    """The predicted picture at a level of the variance-preserving process, clipped."""
    signal, noise = np.sqrt(alpha_bar), np.sqrt(np.float32(1) - alpha_bar)
    return clipped(config, picture_of(config, x, output, signal, noise))


def picture_at_sigma(
    config: SchedulerConfig, x: F32Array, output: F32Array, sigma: np.float32
) -> F32Array:
    """The predicted picture of latents x = picture + sigma * epsilon (arXiv 2206.00364)."""
    if config.prediction_type == "epsilon":
        return np.asarray(x - sigma * output, np.float32)
    variance = sigma**2 + np.float32(1)
    return np.asarray(output * (-sigma / np.sqrt(variance)) + x / variance, np.float32)
