"""How much noise each training timestep adds, and which timesteps a session visits.

T training timesteps, S steps of a session. Computed in float32 where torch does, with the
cumulative product in float64, so that tables agree with those that a student was trained on.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError
from edgekd.runtime.scheduler_config import SchedulerConfig

F32Array = npt.NDArray[np.float32]
F64Array = npt.NDArray[np.float64]
I64Array = npt.NDArray[np.int64]


def alphas_cumprod(config: SchedulerConfig) -> F32Array:
    """The products alpha-bar [T] of Ho et al., "Denoising Diffusion Probabilistic Models"
    (arXiv 2006.11239, equation 4), with zero terminal SNR where the config asks for it."""
    count = config.num_train_timesteps
    if config.beta_schedule == "linear":
        betas = _linspace(config.beta_start, config.beta_end, count)
    else:  # scaled_linear: linear in the square root, as latent diffusion models are trained
        betas = _linspace(config.beta_start**0.5, config.beta_end**0.5, count) ** 2
    products = _cumprod(np.float32(1) - betas)
    return _zero_terminal_snr(products) if config.rescale_betas_zero_snr else products


def _linspace(start: float, stop: float, count: int) -> F32Array:
    """From both ends to the middle, each value rounded once: torch's vector code for x86 and Arm
    multiplies and adds in one instruction. Doubles hold the products exactly."""
    first, last = np.float32(start), np.float32(stop)
    step = np.float64((last - first) / np.float32(count - 1))
    index = np.arange(count)
    rising = first + step * index
    falling = last - step * (count - 1 - index)
    return np.where(index < count // 2, rising, falling).astype(np.float32)


def _cumprod(values: F32Array) -> F32Array:
    return np.cumprod(values, dtype=np.float64).astype(np.float32)


def _zero_terminal_snr(products: F32Array) -> F32Array:
    """Shift and scale the square roots so that the last is zero and the first stays.

    Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed"
    (arXiv 2305.08891), algorithm 1.
    """
    roots = np.sqrt(products)
    scaled = (roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))
    rescaled = scaled**2
    # By way of the single betas, as the algorithm prints it: the rounding is part of the table.
    betas = np.float32(1) - np.concatenate([rescaled[:1], rescaled[1:] / rescaled[:-1]])
    return _cumprod(np.float32(1) - betas)


def spaced_timesteps(config: SchedulerConfig, steps: int) -> F64Array:
    """Timesteps [S] of a session, falling (arXiv 2305.08891, table 2).

    `linspace` gives fractions where S - 1 does not divide T - 1.

    Raises:
        InputError: more steps than training timesteps, or a timestep past the last one.
    """
    count = _checked(config, steps)
    if config.timestep_spacing == "linspace":
        # Single precision first: these fractions are what the U-Net is given.
        return np.linspace(0, count - 1, steps, dtype=np.float32)[::-1].astype(np.float64)
    if config.timestep_spacing == "trailing":
        return _trailing(config, steps)
    return _leading(config, steps, count // steps)


def rounded_timesteps(config: SchedulerConfig, steps: int) -> I64Array:
    """As `spaced_timesteps`, for samplers that look single timesteps up.

    Raises:
        InputError: as `spaced_timesteps`.
    """
    if config.timestep_spacing != "linspace":
        return spaced_timesteps(config, steps).astype(np.int64)
    # In double, where single precision could fall on the other side.
    fractions = np.linspace(0, _checked(config, steps) - 1, steps)
    return np.round(fractions[::-1]).astype(np.int64)


def multistep_timesteps(config: SchedulerConfig, steps: int) -> I64Array:
    """As `rounded_timesteps`, with a point more, which is left out: the lowest, where the last
    step would end. Solvers of several orders end at a level of their own.

    Raises:
        InputError: as `spaced_timesteps`.
    """
    count = _checked(config, steps)
    if config.timestep_spacing == "trailing":
        return _trailing(config, steps).astype(np.int64)
    if config.timestep_spacing == "leading":
        return _leading(config, steps + 1, count // (steps + 1))[:-1].astype(np.int64)
    points = np.linspace(0, count - 1, steps + 1)
    return np.round(points[::-1][:-1]).astype(np.int64)


def _checked(config: SchedulerConfig, steps: int) -> int:
    """T, where a session can have this many steps."""
    count = config.num_train_timesteps
    if not 1 <= steps <= count:
        raise InputError(f"`1 <= steps <= {count}` must hold", f"steps={steps}")
    return count


def _trailing(config: SchedulerConfig, steps: int) -> F64Array:
    count = config.num_train_timesteps
    # For some numbers, 61 of 1,000, arange has one value more, which is 0 but for its rounding.
    points = np.arange(count, 0, -count / steps)[:steps]
    return np.asarray(np.round(points) - 1, np.float64)


def _leading(config: SchedulerConfig, points: int, stride: int) -> F64Array:
    timesteps = np.arange(points, dtype=np.float64)[::-1] * stride + config.steps_offset
    if timesteps[0] >= config.num_train_timesteps:
        raise InputError(
            f"the first timestep must be below {config.num_train_timesteps}",
            f"{timesteps[0]:g} (steps_offset={config.steps_offset})",
            "Take fewer steps.",
        )
    return timesteps
