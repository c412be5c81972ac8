"""Noise, targets and SNR against diffusers' own schedulers."""

import pytest
import torch

from edgekd.diffusion.noise_schedule import read_schedule
from edgekd.training.min_snr import min_snr_weights


def _scheduler(prediction_type: str, zero_snr: bool = False) -> object:
    from edgekd.libraries import diffusers

    return diffusers.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        rescale_betas_zero_snr=zero_snr,
        clip_sample=False,
    )


@pytest.fixture
def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 5, 4, 8, 8, generator=source)
    return latents, noise, torch.tensor([0, 1, 500, 998, 999])


@pytest.mark.parametrize("zero_snr", [False, True])
def test_noise_and_velocity_equal_diffusers(drawn, zero_snr):
    latents, noise, timesteps = drawn
    scheduler = _scheduler("v_prediction", zero_snr)
    schedule = read_schedule(scheduler)
    noisy = schedule.add_noise(latents, noise, timesteps)
    # Equal formulas in equal precision: the same bits.
    assert torch.equal(noisy, scheduler.add_noise(latents, noise, timesteps))
    velocity = schedule.target(latents, noise, timesteps)
    assert torch.equal(velocity, scheduler.get_velocity(latents, noise, timesteps))


def test_target_of_an_epsilon_teacher_is_the_noise(drawn):
    latents, noise, timesteps = drawn
    assert read_schedule(_scheduler("epsilon")).target(latents, noise, timesteps) is noise


def test_a_perfect_prediction_leads_back_to_the_latents(drawn):
    latents, noise, timesteps = drawn
    schedule = read_schedule(_scheduler("v_prediction"))
    alphas = schedule.alphas_cumprod[timesteps][:, None, None, None]
    noisy = schedule.add_noise(latents, noise, timesteps)
    velocity = schedule.target(latents, noise, timesteps)
    assert torch.allclose(
        alphas.sqrt() * noisy - (1 - alphas).sqrt() * velocity, latents, atol=1e-5
    )


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_min_snr_weights_mean_the_same_loss_on_the_image(prediction_type):
    """Both formulas are `min(SNR, gamma)` on the squared error of x_0 (Hang et al., eq. 8)."""
    schedule = read_schedule(_scheduler(prediction_type))
    timesteps = torch.tensor([0, 250, 999])
    alphas = schedule.alphas_cumprod[timesteps].double()
    snr = alphas / (1 - alphas)
    weights = min_snr_weights(schedule.snr(timesteps), 5.0, prediction_type).double()
    # An error e of the prediction is an error of x_0 of sigma/alpha * e, or sigma * e.
    x0_error_per_unit = 1 / snr if prediction_type == "epsilon" else 1 - alphas
    assert torch.allclose(weights, snr.clamp(max=5.0) * x0_error_per_unit, rtol=1e-4)


def test_zero_terminal_snr_gives_finite_weights():
    schedule = read_schedule(_scheduler("v_prediction", zero_snr=True))
    snr = schedule.snr(torch.arange(schedule.timesteps))
    assert snr[-1].item() == 0.0
    for prediction_type in ("epsilon", "v_prediction"):
        assert bool(torch.isfinite(min_snr_weights(snr, 5.0, prediction_type)).all())
