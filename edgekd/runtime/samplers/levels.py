"""The noise levels sigma that a session of S steps visits, falling."""

from __future__ import annotations

import math

import numpy as np

from edgekd.runtime.noise_schedule import alphas_cumprod
from edgekd.runtime.samplers.beta import beta_quantile
from edgekd.runtime.samplers.sampler import F32Array, F64Array
from edgekd.runtime.scheduler_config import SchedulerConfig

_RHO = 7.0  # arXiv 2206.00364, table 1
_BETA = 0.6  # both parameters: Lee et al., "Beta Sampling is All You Need" (arXiv 2407.12173)


def sigma_table(config: SchedulerConfig) -> F32Array:
    """sigma of every training timestep [T], rising."""
    table = alphas_cumprod(config)
    if config.rescale_betas_zero_snr:
        table[-1] = 2**-24  # all but zero: the first sigma must not be infinite
    return np.asarray(np.sqrt((np.float32(1) - table) / table), np.float32)


def is_spaced(config: SchedulerConfig) -> bool:
    """Whether a rule for sigma decides, and timesteps follow from it."""
    return config.use_karras_sigmas or config.use_exponential_sigmas or config.use_beta_sigmas


def spaced_sigmas(config: SchedulerConfig, high: float, low: float, steps: int) -> F64Array:
    """`steps` levels between two, both ends included, by the rule that the config names.

    Karras: arXiv 2206.00364, equation 5. Exponential: evenly in log sigma. Beta: quantiles of the
    beta distribution (arXiv 2407.12173).
    """
    high = high if config.sigma_max is None else config.sigma_max
    low = low if config.sigma_min is None else config.sigma_min
    ramp = np.linspace(0, 1, steps)
    if config.use_karras_sigmas:
        top, bottom = high ** (1 / _RHO), low ** (1 / _RHO)
        return np.asarray((top + ramp * (bottom - top)) ** _RHO, np.float64)
    if config.use_exponential_sigmas:
        return np.exp(np.linspace(math.log(high), math.log(low), steps))
    return low + beta_quantile(1 - ramp, _BETA) * (high - low)


def timesteps_of(sigmas: F64Array, table: F32Array) -> F64Array:
    """Where levels lie among the training timesteps: linear between them in log sigma."""
    logs, wanted = np.log(table), np.log(np.maximum(sigmas, 1e-10))
    below = np.searchsorted(logs.astype(np.float64), wanted, side="right") - 1
    below = np.clip(below, 0, len(table) - 2)
    low, high = logs[below], logs[below + 1]
    weight = np.clip((low - wanted) / (low - high), 0, 1)
    return np.asarray((1 - weight) * below + weight * (below + 1), np.float64)


def at_timesteps(timesteps: F64Array, table: F32Array) -> F64Array:
    """Levels of fractional timesteps."""
    return np.interp(timesteps, np.arange(len(table)), table)


def with_last(sigmas: F64Array, last: float) -> F32Array:
    """The levels [S + 1] that a session's steps start and end at."""
    return np.append(sigmas, last).astype(np.float32)
