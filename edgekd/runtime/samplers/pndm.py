"""Liu et al., "Pseudo Numerical Methods for Diffusion Models on Manifolds" (arXiv 2202.09778)."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError
from edgekd.runtime.noise_schedule import alphas_cumprod, rounded_timesteps
from edgekd.runtime.samplers.predictions import epsilon_of
from edgekd.runtime.samplers.sampler import Draw, F32Array, Unscaled
from edgekd.runtime.scheduler_config import SchedulerConfig

I64Array = npt.NDArray[np.int64]
_ORDER = 4
_RUNGE_KUTTA_CALLS = 12  # four for each of the three steps before the multistep ones
# Weights of the outputs, newest first: Adams-Bashforth of rising order (equation 12).
_MULTISTEP = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


class Pndm(Unscaled):
    """Algorithm 2 (F-PNDM): pseudo Runge-Kutta steps (equation 13), then pseudo linear multistep.

    With `skip_prk_steps` the multistep method starts by itself instead: Euler's method, and the
    first step again with the mean slope of both ends, so that a session of S > 1 steps has S + 1
    calls (K. Crowson's PLMS, CompVis/latent-diffusion).
    """

    def __init__(self, config: SchedulerConfig, steps: int) -> None:
        self.config = config
        self._stride = config.num_train_timesteps // steps
        visited = rounded_timesteps(config, steps)
        self._calls = (
            np.concatenate([visited[:2], visited[1:]])
            if config.skip_prk_steps
            else _with_runge_kutta(visited, self._stride // 2)
        )
        self.timesteps = self._calls.astype(np.float32)
        self._table = alphas_cumprod(config)
        self._last = np.float32(1) if config.set_alpha_to_one else self._table[0]
        self._outputs: list[F32Array] = []  # newest first, of whole steps
        self._start = self._slope = np.zeros(0, np.float32)

    def step(self, output: F32Array, x: F32Array, index: int, draw: Draw) -> F32Array:
        if not self.config.skip_prk_steps and index < _RUNGE_KUTTA_CALLS:
            return self._runge_kutta(output, x, index)
        timestep = int(self._calls[index])
        if self.config.skip_prk_steps and index == 1:
            mean = (output + self._outputs[0]) / np.float32(2)
            return self._transfer(self._start, mean, timestep + self._stride, timestep)
        self._start = x
        self._outputs = [output, *self._outputs][:_ORDER]
        weights = _MULTISTEP[len(self._outputs)]
        slope = sum(
            np.float32(weight) * one for weight, one in zip(weights, self._outputs, strict=True)
        )
        return self._transfer(x, np.asarray(slope), timestep, timestep - self._stride)

    def _runge_kutta(self, output: F32Array, x: F32Array, index: int) -> F32Array:
        """One of the four calls of a classic Runge-Kutta step, each from the step's own start."""
        call = index % 4
        if call == 0:
            self._start = x
            self._slope = np.zeros_like(x)
            self._outputs = [output, *self._outputs]
        self._slope = self._slope + np.float32((1 / 6, 1 / 3, 1 / 3, 1 / 6)[call]) * output
        begun, timestep = int(self._calls[index - call]), int(self._calls[index])
        target = timestep - (self._stride // 2 if call in (0, 2) else 0)
        return self._transfer(self._start, self._slope if call == 3 else output, begun, target)

    def _transfer(self, x: F32Array, output: F32Array, timestep: int, target: int) -> F32Array:
        """The transfer phi of equation 9, from one timestep to another."""
        here = self._table[timestep]
        there = self._table[target] if target >= 0 else self._last
        epsilon = epsilon_of(self.config, x, output, np.sqrt(here), np.sqrt(1 - here))
        norm = here * np.sqrt(1 - there) + np.sqrt(here * (1 - here) * there)
        return np.asarray(np.sqrt(there / here) * x - (there - here) * epsilon / norm, np.float32)


def _with_runge_kutta(visited: I64Array, half: int) -> I64Array:
    """Timesteps of all calls: start, middle twice and end of three steps, then one of each step.

    Raises:
        InputError: too few steps.
    """
    if len(visited) < _ORDER:
        raise InputError(
            f"`steps >= {_ORDER}` must hold for PNDMScheduler without `skip_prk_steps`",
            f"steps={len(visited)}",
            "Take more steps, or another sampler.",
        )
    starts = [
        [start, end + half, end + half, end] for start, end in itertools.pairwise(visited[:_ORDER])
    ]
    return np.concatenate([*starts, visited[3:]]).astype(np.int64)
