"""Every sampler against diffusers' class of the same name, over their settings."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from edgekd.errors import InputError
from edgekd.libraries import diffusers
from edgekd.runtime.samplers import fewest_steps, make_sampler
from edgekd.runtime.scheduler_config import parse_config
from edgekd.runtime.scheduler_settings import SAMPLERS

SHAPE = (1, 4, 6, 5)

common = {
    "num_train_timesteps": st.sampled_from([1000, 100, 997]),
    "beta_start": st.sampled_from([0.00085, 0.0001]),
    "beta_end": st.sampled_from([0.012, 0.02]),
    "beta_schedule": st.sampled_from(["linear", "scaled_linear"]),
    "prediction_type": st.sampled_from(["epsilon", "v_prediction"]),
    "timestep_spacing": st.sampled_from(["leading", "linspace", "trailing"]),
    "steps_offset": st.sampled_from([0, 1]),
    "rescale_betas_zero_snr": st.booleans(),
    "set_alpha_to_one": st.booleans(),
    "clip_sample": st.booleans(),
    "clip_sample_range": st.sampled_from([1.0, 3.0]),
    "final_sigmas_type": st.sampled_from(["zero", "sigma_min"]),
    "original_inference_steps": st.sampled_from([50, 40]),
    "timestep_scaling": st.sampled_from([10.0, 1.0]),
    "skip_prk_steps": st.booleans(),
    "solver_order": st.sampled_from([1, 2, 3]),
    "algorithm_type": st.sampled_from(["dpmsolver++", "sde-dpmsolver++"]),
    "euler_at_final": st.booleans(),
    "use_karras_sigmas": st.booleans(),
    "variance_type": st.sampled_from(["fixed_small", "fixed_large"]),
}


def fake_unet(x: torch.Tensor, timestep: float) -> torch.Tensor:
    """Any function of both; as large as a noise prediction."""
    return torch.sin(x * 1.7 + timestep / 300) * 1.2


def diffusers_scheduler(config: dict[str, Any]) -> Any:
    kind = getattr(diffusers, config["_class_name"])
    known = inspect.signature(kind.__init__).parameters
    return kind(**{key: value for key, value in config.items() if key in known})


# A third order whose last two levels of noise are one divides by zero.
ENDLESS = {
    "solver_order": 3,
    "final_sigmas_type": "sigma_min",
    "use_karras_sigmas": True,
    "rescale_betas_zero_snr": False,
    "prediction_type": "epsilon",
}


# One step from noise to the picture: its two terms are a hundred times as large.
FROM_NOISE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.02,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "skip_prk_steps": True,
    "rescale_betas_zero_snr": False,
}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SAMPLERS), st.fixed_dictionaries(common), st.sampled_from([1, 2, 4, 7, 25]))
@example("DPMSolverMultistepScheduler", ENDLESS, 25)
@example("PNDMScheduler", FROM_NOISE, 1)
def test_every_step_is_diffusers(name, config, steps):
    config = {"_class_name": name, **config}
    # No picture follows from a noise prediction at a level of noise alone: 0 / 0 there and here.
    assume(not (config["rescale_betas_zero_snr"] and config["prediction_type"] == "epsilon"))
    assume(steps >= 4 or name != "PNDMScheduler" or config["skip_prk_steps"])  # refused, below
    trailing = config.get("timestep_spacing") == "trailing"
    # Theirs has one timestep too many, below.
    assume(not (trailing and config["num_train_timesteps"] == 997 and steps == 7))
    theirs = diffusers_scheduler(config)
    theirs.set_timesteps(steps)
    if hasattr(theirs, "set_begin_index"):
        theirs.set_begin_index(0)  # as SDXL's pipeline; timesteps that are cut off may repeat
    # Some roundings of float32, 6e-8 each. The tables with zero terminal SNR are not the same to
    # the last bit (below), and at the first levels, where 1 - alpha-bar is 1e-4, one bit of
    # alpha-bar is 6e-4 of it.
    scale, rtol = (1e-4, 1e-3) if config["rescale_betas_zero_snr"] else (4e-6, 1e-6)
    try:
        ours = make_sampler(parse_config(config), steps)
    except InputError:
        assert not is_finite(theirs)
        return
    # Equal, but for Karras' ramp, whose timesteps are found between the logarithms of two levels: a
    # rounding of float32 near 1000 is 6e-5. Where tables differ, its ends do by 3e-4, and it
    # crosses levels that are 0.005 apart.
    apart = 0.0
    if config.get("use_karras_sigmas"):
        apart = 6e-2 if config["rescale_betas_zero_snr"] else 7e-5
    np.testing.assert_allclose(ours.timesteps, theirs.timesteps.float(), rtol=0, atol=apart)
    np.testing.assert_allclose(ours.initial_scale, float(theirs.init_noise_sigma), rtol=rtol)
    # Two generators in step: a draw that only one side makes shows at the next step.
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    takes = inspect.signature(theirs.step).parameters
    extra: dict[str, Any] = {"generator": generators[0]} if "generator" in takes else {}
    if "eta" in takes:
        extra["eta"] = 0.0  # as diffusers' pipelines pass it
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(6)) * theirs.init_noise_sigma
    for index, timestep in enumerate(theirs.timesteps):
        scaled = theirs.scale_model_input(x, timestep)
        close(ours.model_input(x.numpy(), index), scaled, scaled, scale)
        output = fake_unet(scaled, float(timestep))
        following = theirs.step(output, timestep, x, **extra).prev_sample
        found = ours.step(
            output.numpy(),
            x.numpy(),
            index,
            lambda: torch.randn(SHAPE, generator=generators[1]).numpy(),
        )
        assert found.dtype == np.float32
        lost = 0.0
        if name == "PNDMScheduler" and config["prediction_type"] == "v_prediction":
            # A step is the difference of two terms, `1 / sqrt(alpha-bar)` times the latents.
            here = float(theirs.alphas_cumprod[int(timestep)])
            lost = 1.2e-7 * float(x.abs().max()) / here**0.5
        close(found, following, x, scale, lost)
        x = following
    assert torch.equal(*(generator.get_state() for generator in generators))


def is_finite(scheduler: Any) -> bool:
    """Whether diffusers gets through all steps."""
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(6))
    for timestep in scheduler.timesteps:
        output = fake_unet(scheduler.scale_model_input(x, timestep), float(timestep))
        x = scheduler.step(output, timestep, x).prev_sample
    return bool(torch.isfinite(x).all())


def close(
    found: np.ndarray,
    expected: torch.Tensor,
    before: torch.Tensor,
    scale: float,
    lost: float = 0.0,
) -> None:
    # Relative to the latents before or after the step, whichever are larger: a picture behind
    # nearly pure noise is a small difference of large terms.
    atol = max(lost, scale * float(max(expected.abs().max(), before.abs().max())))
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("name", "steps", "message"),
    [
        ("DDIMScheduler", 0, "1 <= steps <= 1000"),
        ("DDIMScheduler", 1001, "1 <= steps <= 1000"),
        ("LCMScheduler", 51, "original_inference_steps=50"),
        ("EulerDiscreteScheduler", 0, "1 <= steps"),
        ("TCDScheduler", 51, "original_inference_steps=50"),
        ("PNDMScheduler", 3, "`steps >= 4` must hold for PNDMScheduler without .*got steps=3"),
        ("DPMSolverMultistepScheduler", 1001, "1 <= steps <= 1000"),
        ("UniPCMultistepScheduler", 0, "1 <= steps <= 1000"),
    ],
)
def test_steps_that_are_refused(name, steps, message):
    with pytest.raises(InputError, match=message):
        make_sampler(parse_config({"_class_name": name}), steps)


def test_a_timestep_past_the_last_is_refused():
    config = parse_config({"_class_name": "DDIMScheduler", "steps_offset": 1})
    with pytest.raises(InputError, match="the first timestep must be below 1000"):
        make_sampler(config, 1000)


def test_levels_that_do_not_fall_are_refused():
    config = {"_class_name": "DPMSolverMultistepScheduler", "timestep_spacing": "leading"}
    with pytest.raises(InputError, match=r"noise levels of DPMSolver.* must fall.*steps=1000"):
        make_sampler(parse_config(config), 1000)


def test_a_high_order_at_no_noise_is_refused():
    config = {"_class_name": "UniPCMultistepScheduler", "lower_order_final": False}
    with pytest.raises(InputError, match="must draw finite latents in 5 steps"):
        make_sampler(parse_config(config), 5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_sessions_do_not_share_their_memory(name):
    config = parse_config({"_class_name": name, "skip_prk_steps": True})
    first, second = (make_sampler(config, 3) for _ in range(2))
    x = np.ones((1, 1, 1, 1), np.float32)
    for index in range(len(first.timesteps)):
        first.step(x, x, index, lambda: x)
    again = make_sampler(config, 3)
    np.testing.assert_array_equal(second.step(x, x, 0, lambda: x), again.step(x, x, 0, lambda: x))


def test_the_fewest_steps_are_those_that_a_sampler_takes():
    pndm = {"_class_name": "PNDMScheduler", "num_train_timesteps": 1000}
    assert fewest_steps(parse_config(pndm), most=25) == 4
    assert fewest_steps(parse_config({**pndm, "skip_prk_steps": True}), most=25) == 1
    ddim = parse_config({**pndm, "_class_name": "DDIMScheduler"})
    assert fewest_steps(ddim, most=25) == 1
    assert fewest_steps(ddim, most=25, least=3) == 3
    assert fewest_steps(ddim, most=2, least=3) == 2


@pytest.mark.parametrize(("count", "steps"), [(1000, 61), (1000, 122), (997, 7), (1000, 4)])
def test_trailing_timesteps_are_as_many_as_steps(count, steps):
    """diffusers has one more, -1, where a rounding of `numpy.arange` leaves it above its end."""
    config = {"_class_name": "DDIMScheduler", "num_train_timesteps": count}
    trailing = parse_config({**config, "timestep_spacing": "trailing"})
    timesteps = make_sampler(trailing, steps).timesteps
    assert len(timesteps) == steps
    assert timesteps[0] == count - 1
    assert timesteps[-1] >= 0
