"""Timesteps and solvers against diffusers' own, and against a diffusion that can be solved."""

from typing import Any

import pytest
import torch

from edgekd.diffusion.noise_schedule import build_scheduler, read_schedule
from edgekd.distill.solver import (
    deployed_scheduler,
    dpm_solver,
    first_order_scheduler,
    solve,
    student_timesteps,
    teacher_timesteps,
)
from edgekd.errors import InputError
from edgekd.libraries import diffusers

STEPS = [1, 2, 4, 5, 8]


def _scheduler(prediction_type: str = "epsilon", zero_snr: bool = False) -> Any:
    config = {
        **build_scheduler().config,
        "prediction_type": prediction_type,
        "rescale_betas_zero_snr": zero_snr,
    }
    return diffusers.DDIMScheduler.from_config(config)


@pytest.mark.parametrize("steps", STEPS)
def test_the_student_visits_what_its_deployed_scheduler_does(steps):
    scheduler = deployed_scheduler(_scheduler())
    scheduler.set_timesteps(steps)
    assert student_timesteps(1000, steps) == scheduler.timesteps.tolist()


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("least", [1, 16, 50])
def test_the_teacher_passes_by_the_students_timesteps(steps, least):
    visited = teacher_timesteps(1000, steps, least)
    parts = len(visited) // steps
    assert visited[::parts] == student_timesteps(1000, steps)
    assert len(visited) >= least
    assert visited == sorted(set(visited), reverse=True)


def test_steps_that_do_not_fit_the_schedule_are_refused():
    with pytest.raises(InputError, match=r"student_steps.*must divide.*1000.*got 3"):
        student_timesteps(1000, 3)
    with pytest.raises(InputError, match=r"teacher_steps <= 1000"):
        teacher_timesteps(1000, 2, 1001)


def _toy(latents: torch.Tensor, timestep: int) -> torch.Tensor:
    return torch.tanh(latents * 0.7 + timestep / 1000)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(
    ("kind", "zero_snr"), [("epsilon", False), ("v_prediction", False), ("v_prediction", True)]
)
@pytest.mark.parametrize("make", [deployed_scheduler, first_order_scheduler])
def test_a_step_in_training_is_one_of_the_deployed_scheduler(steps, kind, zero_snr, make):
    teacher = _scheduler(kind, zero_snr)
    schedule, deployed = read_schedule(teacher), make(teacher)
    deployed.set_timesteps(steps)
    ours = theirs = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    timesteps = student_timesteps(1000, steps)
    for timestep, following in zip(timesteps, [*timesteps[1:], -1], strict=True):
        ours = schedule.ddim_step(ours, _toy(ours, timestep), timestep, following)
        theirs = deployed.step(_toy(theirs, timestep), timestep, theirs).prev_sample
        # Rounding in another order, and divided by a signal of 0.07 at the first timestep.
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_teachers_solver_finds_the_known_way_of_gaussian_data(steps):
    """Pictures of a normal distribution: `x_t = x_T std_t / std_T` solves the flow exactly."""
    spread, teacher = 0.5, _scheduler()
    alphas = read_schedule(teacher).alphas_cumprod

    def noise_of(latents: torch.Tensor, timestep: int) -> torch.Tensor:
        alpha = alphas[timestep]
        return (1 - alpha).sqrt() / (alpha * spread**2 + 1 - alpha) * latents

    def std(timestep: int) -> torch.Tensor:
        alpha = alphas[timestep] if timestep >= 0 else torch.tensor(1.0)
        return (alpha * spread**2 + 1 - alpha).sqrt()

    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    borders = [*student_timesteps(1000, steps), -1]
    exact = torch.stack([start * std(t) / std(borders[0]) for t in borders], dim=1)
    errors = []
    for least in (16, 64):
        solver = dpm_solver(teacher, teacher_timesteps(1000, steps, least))
        states = solve(start, noise_of, solver, steps)
        assert states.shape == (1, steps + 1, 4, 8, 8)
        errors.append(float((states - exact).abs().max()))
    # Of values up to 2; most of it from the one step of first order at the end.
    assert errors[0] < 0.25
    assert errors[1] < errors[0] / 2


@pytest.mark.parametrize("steps", [1, 2])
def test_up_to_two_steps_any_second_order_client_draws_the_same(steps):
    """As Apple's package does, whose DPM-Solver++ is of second order whatever the config says."""
    first = first_order_scheduler(_scheduler())
    second = diffusers.DPMSolverMultistepScheduler.from_config(first.config, solver_order=2)
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    ways = []
    for scheduler in (first, second):
        scheduler.set_timesteps(steps)
        latents = start
        for timestep in scheduler.timesteps.tolist():
            latents = scheduler.step(_toy(latents, timestep), timestep, latents).prev_sample
        ways.append(latents)
    assert torch.equal(*ways)


def test_the_teachers_own_sampler_settings_do_not_leak_into_the_solver():
    """Karras sigmas and thresholds would move the borders, or cut latents."""
    config = {**build_scheduler().config, "use_karras_sigmas": True, "thresholding": True}
    odd = diffusers.DPMSolverMultistepScheduler.from_config(config)
    visited = teacher_timesteps(1000, 2, 8)
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    ways = [solve(start, _toy, dpm_solver(s, visited), 2) for s in (_scheduler(), odd)]
    assert torch.equal(*ways)
