"""What solvers that reuse earlier outputs share: levels of the variance-preserving process.

x = alpha * picture + sigma * epsilon with alpha^2 + sigma^2 = 1; lambda = log(alpha / sigma), half
the logarithm of the signal-to-noise ratio, in which these solvers step (Lu et al., "DPM-Solver",
arXiv 2206.00927, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekd.errors import InputError
from edgekd.runtime.noise_schedule import multistep_timesteps
from edgekd.runtime.samplers.levels import (
    at_timesteps,
    is_spaced,
    sigma_table,
    spaced_sigmas,
    timesteps_of,
    with_last,
)
from edgekd.runtime.samplers.predictions import epsilon_of, picture_of
from edgekd.runtime.samplers.sampler import F32Array, F64Array
from edgekd.runtime.scheduler_config import SchedulerConfig


@dataclass(frozen=True)
class Levels:
    """Levels [S + 1] that a session's steps start and end at; timesteps [S] of the starts."""

    timesteps: F32Array
    alpha: F64Array
    sigma: F64Array
    lambdas: F64Array

    def picture(
        self, config: SchedulerConfig, x: F32Array, output: F32Array, index: int
    ) -> F32Array:
        alpha, sigma = np.float32(self.alpha[index]), np.float32(self.sigma[index])
        return picture_of(config, x, output, alpha, sigma)

    def epsilon(
        self, config: SchedulerConfig, x: F32Array, output: F32Array, index: int
    ) -> F32Array:
        alpha, sigma = np.float32(self.alpha[index]), np.float32(self.sigma[index])
        return epsilon_of(config, x, output, alpha, sigma)


def make_levels(config: SchedulerConfig, steps: int) -> Levels:
    """The levels of a session.

    Raises:
        InputError: more steps than training timesteps, or so many that two are one.
    """
    table = sigma_table(config)
    visited = multistep_timesteps(config, steps)
    high, low, last = float(table[-1]), float(table[0]), float(table[0])
    if is_spaced(config):
        sigmas = spaced_sigmas(config, high, low, steps)
        fractions = timesteps_of(sigmas, table)
        # Others are cut off, as diffusers does.
        visited = (np.round(fractions) if config.use_karras_sigmas else fractions).astype(np.int64)
        if config.name == "UniPCMultistepScheduler":
            last = float(sigmas[-1])
    elif config.use_lu_lambdas:
        sigmas = _evenly_in_log_sigma(table, steps)
        visited = np.round(timesteps_of(sigmas, table)).astype(np.int64)
    else:
        sigmas = at_timesteps(visited.astype(np.float64), table)
    if len(sigmas) > 1 and not sigmas[0] > sigmas[1]:
        raise InputError(
            f"the noise levels of {config.name} must fall",
            f"{sigmas[0]:g} twice (steps={steps})",
            "Take fewer steps.",
        )
    levels = with_last(sigmas, last if config.final_sigmas_type == "sigma_min" else 0.0)
    return _levels(visited.astype(np.float32), levels.astype(np.float64))


def _levels(timesteps: F32Array, sigmas: F64Array) -> Levels:
    alpha = 1 / np.sqrt(sigmas**2 + 1)
    with np.errstate(divide="ignore"):  # the picture itself lies at lambda = infinity
        return Levels(timesteps, alpha, sigmas * alpha, -np.log(sigmas))


def _evenly_in_log_sigma(table: F32Array, steps: int) -> F64Array:
    """arXiv 2206.00927, section 3.4, from the last training timestep to the first."""
    logs = np.log(table)
    high, low = float(logs[-1]), float(logs[0])
    return np.exp(high + np.linspace(0, 1, steps) * (low - high))
