"""Solvers of the probability-flow ODE dx/dsigma = (x - picture) / sigma (arXiv 2206.00364)."""

from __future__ import annotations

import numpy as np

from edgekd.runtime.noise_schedule import spaced_timesteps
from edgekd.runtime.samplers.levels import (
    at_timesteps,
    is_spaced,
    sigma_table,
    spaced_sigmas,
    timesteps_of,
    with_last,
)
from edgekd.runtime.samplers.predictions import clipped, picture_at_sigma
from edgekd.runtime.samplers.sampler import Draw, F32Array
from edgekd.runtime.scheduler_config import SchedulerConfig


def _session(config: SchedulerConfig, steps: int) -> tuple[F32Array, F32Array]:
    """Timesteps [S] and the levels [S + 1] of a session."""
    table = sigma_table(config)
    visited = spaced_timesteps(config, steps)
    sigmas = at_timesteps(visited, table)
    if is_spaced(config):
        sigmas = spaced_sigmas(config, float(sigmas[0]), float(sigmas[-1]), steps)
        visited = timesteps_of(sigmas, table)
    last = float(table[0]) if config.final_sigmas_type == "sigma_min" else 0.0
    return visited.astype(np.float32), with_last(sigmas, last)


class Euler:
    """Euler's method: arXiv 2206.00364, algorithm 2 without churn."""

    def __init__(self, config: SchedulerConfig, steps: int) -> None:
        self.config = config
        self.timesteps, self.sigmas = _session(config, steps)
        self.initial_scale = _initial_scale(config, self.sigmas)

    def model_input(self, x: F32Array, index: int) -> F32Array:
        return np.asarray(x / np.sqrt(self.sigmas[index] ** 2 + 1))

    def step(self, output: F32Array, x: F32Array, index: int, draw: Draw) -> F32Array:
        return self._move(output, x, index, self.sigmas[index + 1])

    def _move(self, output: F32Array, x: F32Array, index: int, target: np.float32) -> F32Array:
        """One step of the ODE, down to sigma `target`."""
        sigma = self.sigmas[index]
        picture = picture_at_sigma(self.config, x, output, sigma)
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


class Heun:
    """Heun's method: arXiv 2206.00364, algorithm 1 without churn. Each step but the last calls the
    U-Net twice: at its start, and where Euler's method would end."""

    def __init__(self, config: SchedulerConfig, steps: int) -> None:
        self.config = config
        visited, self.sigmas = _session(config, steps)
        self.timesteps = np.append(visited[:1], np.repeat(visited[1:], 2))
        self.initial_scale = _initial_scale(config, self.sigmas)
        self._start = self._slope = np.zeros(0, np.float32)

    def model_input(self, x: F32Array, index: int) -> F32Array:
        return np.asarray(x / np.sqrt(self.sigmas[(index + 1) // 2] ** 2 + 1))

    def step(self, output: F32Array, x: F32Array, index: int, draw: Draw) -> F32Array:
        # Calls 0, 2, 4... leave level 0, 1, 2...; calls 1, 3, 5... correct where they arrived.
        begun, corrects = divmod(index, 2)
        sigma, following = self.sigmas[begun], self.sigmas[begun + 1]
        here = following if corrects else sigma
        picture = clipped(self.config, picture_at_sigma(self.config, x, output, here))
        slope = (x - picture) / here
        if corrects:
            slope = (self._slope + slope) / np.float32(2)
        else:
            self._start, self._slope = x, slope
        return np.asarray(self._start + slope * (following - sigma), np.float32)


def _initial_scale(config: SchedulerConfig, sigmas: F32Array) -> float:
    largest = sigmas.max()
    # `leading` starts below the last level, where the picture's own variance still shows.
    leading = config.timestep_spacing == "leading"
    return float(np.sqrt(largest**2 + 1) if leading else largest)
