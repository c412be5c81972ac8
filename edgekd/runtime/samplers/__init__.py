"""The samplers that pipelines are drawn with, as plain equations on arrays.

One file for each family; step for step what diffusers' class of the same name does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgekd.errors import InputError
from edgekd.runtime.samplers.consistency import Lcm, Tcd
from edgekd.runtime.samplers.ddim import Ddim, Ddpm
from edgekd.runtime.samplers.dpm_solver import DpmSolver
from edgekd.runtime.samplers.euler import Euler, EulerAncestral, Heun
from edgekd.runtime.samplers.pndm import Pndm
from edgekd.runtime.samplers.sampler import Sampler
from edgekd.runtime.samplers.unipc import UniPc
from edgekd.runtime.scheduler_config import SchedulerConfig

_CLASSES: dict[str, Callable[[SchedulerConfig, int], Sampler]] = {
    "DDIMScheduler": Ddim,
    "DDPMScheduler": Ddpm,
    "DPMSolverMultistepScheduler": DpmSolver,
    "EulerAncestralDiscreteScheduler": EulerAncestral,
    "EulerDiscreteScheduler": Euler,
    "HeunDiscreteScheduler": Heun,
    "LCMScheduler": Lcm,
    "PNDMScheduler": Pndm,
    "TCDScheduler": Tcd,
    "UniPCMultistepScheduler": UniPc,
}


def make_sampler(config: SchedulerConfig, steps: int) -> Sampler:
    """A session of `steps` steps.

    Raises:
        InputError: the sampler cannot take this many steps, or divides by zero with these settings
            (a solver of a high order that ends at no noise).
    """
    make = _CLASSES[config.name]
    if not _is_finite(make(config, steps)):
        raise InputError(
            f"{config.name} must draw finite latents in {steps} steps with its settings",
            "NaN or infinity",
            "Leave `lower_order_final` and `final_sigmas_type` at their defaults.",
        )
    return make(config, steps)


def calls_of(config: SchedulerConfig, steps: int) -> int:
    """Calls of the U-Net in a session: one for each step, and more of samplers as Heun's.

    Raises:
        InputError: see `make_sampler`.
    """
    return len(make_sampler(config, steps).timesteps)


def fewest_steps(config: SchedulerConfig, most: int, least: int = 1) -> int:
    """The fewest steps that the sampler takes, of `least` to `most`, which it takes.

    One, but for samplers that begin with several calls to look back upon.
    """
    for steps in range(least, most):
        try:
            make_sampler(config, steps)
        except InputError:
            continue
        return steps
    return most


def _is_finite(session: Sampler) -> bool:
    """Whether a session gets through, tried on one value: it costs next to nothing."""
    x = np.ones((1, 1, 1, 1), np.float32)
    with np.errstate(all="ignore"):
        try:
            for index in range(len(session.timesteps)):
                output = np.float32(0.5) * session.model_input(x, index)
                x = session.step(output, x, index, lambda: np.ones_like(x))  # noqa: B023
        except np.linalg.LinAlgError:
            return False
    return bool(np.isfinite(x).all())
