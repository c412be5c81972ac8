"""From noise to a picture: which timesteps a few-step student visits, and its teacher's solver.

Shapes: B batch, [B, C, h, w] latents; T timesteps of the noise schedule, n steps of the student.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from edgekd.errors import InputError
from edgekd.libraries import diffusers
from edgekd.recipe_distill import FewStepSection

# Steps of the solver that latent consistency models learn from (Luo et al. 2023, section 4.3:
# T / k, k = 20), and what their boundary condition multiplies timesteps by.
CONSISTENCY_STEPS = 50
TIMESTEP_SCALING = 10.0
# DPM-Solver++ with nothing of what the teacher's own config may ask for besides its noise.
_PLAIN: dict[str, Any] = {
    "algorithm_type": "dpmsolver++",
    "solver_type": "midpoint",
    "final_sigmas_type": "zero",
    "lower_order_final": True,
    "thresholding": False,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_lu_lambdas": False,
    "use_flow_sigmas": False,
    "lambda_min_clipped": -float("inf"),
    "variance_type": None,
}

# What the teacher predicts for latents [B, C, h, w] at one timestep.
Predict = Callable[[Tensor, int], Tensor]


def student_timesteps(timesteps: int, steps: int) -> list[int]:
    """The n timesteps at which the student looks at its latents, `T - i T / n - 1`.

    The `trailing` spacing (Lin et al. 2023, "Common diffusion noise schedules", table 2): it
    begins at noise alone, and a step ends where the next one begins.

    Raises:
        InputError: T is no multiple of n; stock samplers then step past their own timesteps.
    """
    if timesteps % steps:
        raise InputError(
            "`distill.few_step.student_steps` must divide the teacher's "
            f"`num_train_timesteps` {timesteps}",
            str(steps),
        )
    stride = timesteps // steps
    return [timesteps - i * stride - 1 for i in range(steps)]


def teacher_timesteps(timesteps: int, steps: int, least: int) -> list[int]:
    """The student's timesteps, with each interval cut into equal parts: `least` or more in all.

    Raises:
        InputError: see `student_timesteps`; also more parts than timesteps.
    """
    if least > timesteps:
        raise InputError(
            f"`distill.few_step.teacher_steps <= {timesteps}` (`num_train_timesteps`) must hold",
            str(least),
        )
    stride, parts = timesteps // steps, -(-least // steps)
    starts = student_timesteps(timesteps, steps)
    return [start - round(part * stride / parts) for start in starts for part in range(parts)]


def check_steps(section: FewStepSection, steps: Iterable[int], timesteps: int) -> None:
    """Refuse what a method of `few_step` could not visit.

    Args:
        steps: of the student: each number that it may get.
        timesteps: T.

    Raises:
        InputError: see `teacher_timesteps`, and `consistency_skip` for the other methods.
    """
    if section.method != "trajectory":
        consistency_skip(timesteps)
        return
    for one in steps:
        teacher_timesteps(timesteps, one, section.teacher_steps)


def dpm_solver(scheduler: Any, timesteps: list[int]) -> Any:
    """DPM-Solver++(2M) on the noise schedule of a diffusers scheduler (Lu et al. 2022, alg. 2).

    Its last step, to no noise at all, is of first order: extrapolated, it spoils the picture.
    """
    solver = diffusers.DPMSolverMultistepScheduler.from_config(
        scheduler.config, **_PLAIN, solver_order=2, euler_at_final=True
    )
    solver.set_timesteps(timesteps=timesteps)
    return solver


def solve(noise: Tensor, predict: Predict, solver: Any, steps: int) -> Tensor:
    """The teacher's way from noise, at the borders of the student's steps.

    Args:
        noise: [B, C, h, w].
        solver: of `dpm_solver`, on timesteps of `teacher_timesteps`.
        steps: n.

    Returns:
        [B, n + 1, C, h, w]: the noise, the latents at the end of each interval.
    """
    parts = len(solver.timesteps) // steps
    latents, states = noise, [noise]
    for index, timestep in enumerate(solver.timesteps.tolist()):
        latents = solver.step(predict(latents, timestep), timestep, latents).prev_sample
        if (index + 1) % parts == 0:
            states.append(latents)
    return torch.stack(states, dim=1)


def deployed_scheduler(scheduler: Any) -> Any:
    """The stock scheduler that draws a few-step student as it was trained: DDIM, trailing.

    Args:
        scheduler: the teacher's.
    """
    return diffusers.DDIMScheduler.from_config(
        scheduler.config,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        clip_sample=False,
        thresholding=False,
        steps_offset=1,
    )


def first_order_scheduler(scheduler: Any) -> Any:
    """DPM-Solver++ of first order, which is DDIM (Lu et al. 2022, section 4.1), on its timesteps.

    For clients that have no DDIM. A solver of second order draws the same in one or two steps: the
    first has no history, and the last is of first order.

    Args:
        scheduler: the teacher's.
    """
    return diffusers.DPMSolverMultistepScheduler.from_config(
        scheduler.config,
        **_PLAIN,
        solver_order=1,
        timestep_spacing="trailing",
        steps_offset=1,
    )


def consistency_scheduler(scheduler: Any) -> Any:
    """The stock scheduler of students that jump to the picture and add new noise: LCM's.

    Args:
        scheduler: the teacher's.
    """
    return diffusers.LCMScheduler.from_config(
        scheduler.config,
        original_inference_steps=CONSISTENCY_STEPS,
        timestep_scaling=TIMESTEP_SCALING,
        clip_sample=False,
        thresholding=False,
    )


def consistency_skip(timesteps: int) -> int:
    """Timesteps between two of those that a consistency student learns.

    Raises:
        InputError: T is no multiple of their number; the last timestep would not be one of them.
    """
    if timesteps % CONSISTENCY_STEPS:
        raise InputError(
            f"the teacher's `num_train_timesteps` must be a multiple of {CONSISTENCY_STEPS} for "
            "this `distill.few_step.method`",
            str(timesteps),
        )
    return timesteps // CONSISTENCY_STEPS


def consistency_timesteps(scheduler: Any, steps: int) -> list[int]:
    """The n timesteps at which `consistency_scheduler` of the teacher's looks at its latents."""
    deployed = consistency_scheduler(scheduler)
    deployed.set_timesteps(steps)
    return [int(timestep) for timestep in deployed.timesteps]
