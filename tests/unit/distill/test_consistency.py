"""The equations of latent consistency distillation against diffusers' sampler."""

from typing import Any

import pytest
import torch

from edgekd.diffusion.noise_schedule import build_scheduler, read_schedule
from edgekd.distill.consistency import consistency_scalings, drawn_scales, jump
from edgekd.distill.solver import consistency_scheduler, consistency_skip, consistency_timesteps
from edgekd.errors import InputError
from edgekd.libraries import diffusers


def _scheduler(kind: str = "epsilon", **changes: Any) -> Any:
    config = {**build_scheduler().config, "prediction_type": kind, **changes}
    return diffusers.DDIMScheduler.from_config(config)


def test_the_scalings_are_those_of_the_deployed_sampler():
    deployed = consistency_scheduler(_scheduler())
    timesteps = torch.tensor([0, 19, 499, 999])
    for found, expected in zip(
        consistency_scalings(timesteps),
        deployed.get_scalings_for_boundary_condition_discrete(timesteps),
        strict=True,
    ):
        torch.testing.assert_close(found.flatten(), expected.float())
    skip, out = consistency_scalings(torch.tensor([0]))
    assert (float(skip), float(out)) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("kind", "zero_snr"), [("epsilon", False), ("v_prediction", False), ("v_prediction", True)]
)
def test_a_jump_is_a_step_of_the_deployed_sampler(kind, zero_snr):
    teacher = _scheduler(kind, rescale_betas_zero_snr=zero_snr)
    schedule, deployed = read_schedule(teacher), consistency_scheduler(teacher)
    deployed.set_timesteps(4)
    source = torch.Generator().manual_seed(0)
    latents, prediction = torch.randn(2, 2, 4, 8, 8, generator=source)
    for timestep in deployed.timesteps:
        theirs = deployed.step(prediction, timestep, latents, generator=source).denoised
        ours = jump(schedule, latents, prediction, timestep.expand(2))
        # Rounding in another order, and divided by a signal of 0.07 at the first timestep.
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_solvers_step_is_ddims(kind):
    teacher = _scheduler(kind)
    schedule = read_schedule(teacher)
    teacher.set_timesteps(50)
    source = torch.Generator().manual_seed(0)
    latents, prediction = torch.randn(2, 2, 4, 8, 8, generator=source)
    timesteps = torch.tensor([999, 39])
    picture, noise = schedule.predicted(latents, prediction, timesteps)
    ours = schedule.add_noise(picture, noise, timesteps - 20)
    for i, timestep in enumerate(timesteps.tolist()):
        theirs = teacher.step(prediction[i], timestep, latents[i]).prev_sample
        torch.testing.assert_close(ours[i], theirs, atol=1e-5, rtol=1e-5)


def test_the_deployed_sampler_looks_where_training_did():
    assert consistency_skip(1000) == 20
    assert consistency_timesteps(_scheduler(), 4) == [999, 759, 499, 259]
    for steps in (1, 2, 8, 50):
        assert {(t + 1) % 20 for t in consistency_timesteps(_scheduler(), steps)} == {0}
    with pytest.raises(InputError, match=r"multiple of 50.*got 990"):
        consistency_skip(990)


def test_scales_follow_from_their_positions():
    scales = drawn_scales(3, range(200), (3.0, 15.0))
    assert torch.equal(drawn_scales(3, range(150, 160), (3.0, 15.0)), scales[150:160])
    assert 3 <= float(scales.min()) < 4
    assert 14 < float(scales.max()) < 15
