"""Whole sessions of every sampler against diffusers' class of the same name, each side on its own
latents, with a smooth function in the U-Net's place."""

import contextlib
import inspect
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.errors import InputError
from edgekd.libraries import diffusers
from edgekd.runtime.samplers import make_sampler
from edgekd.runtime.scheduler_config import parse_config
from edgekd.runtime.scheduler_settings import OBEYED, SAMPLERS

SHAPE = (1, 4, 6, 5)
STEPS = [1, 2, 3, 4, 10, 25]
STABLE_DIFFUSION = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "skip_prk_steps": True,
}
# Roundings of float32 (6e-8 each, or -144 dB) in two orders of the same operations, carried through
# up to 49 calls of a function that reacts to them.
FLOOR_DB = 100.0


@pytest.fixture(autouse=True)
def exact_roots(monkeypatch):
    """torch's roots of float32 are one rounding off on some processors (of an EPYC every fifth), by
    which a session that begins at sigma 4096 is 70 dB off. IEEE 754 and numpy round them right, as
    those of float64 do that are rounded to float32."""
    root, power = torch.Tensor.sqrt, torch.Tensor.__pow__

    def exact(x: torch.Tensor) -> torch.Tensor:
        return root(x.double()).to(x.dtype)

    monkeypatch.setattr(torch, "sqrt", exact)
    monkeypatch.setattr(torch.Tensor, "sqrt", exact)
    monkeypatch.setattr(
        torch.Tensor, "__pow__", lambda x, to: exact(x) if to == 0.5 else power(x, to)
    )


def unet(x: torch.Tensor, timestep: float) -> torch.Tensor:
    """A smooth function of both, about as large as a noise prediction."""
    return torch.tanh(x * 0.8 + torch.roll(x, 1, -1) * 0.3) + 0.1 * float(np.sin(timestep / 300))


def their_session(config: dict[str, Any], steps: int) -> Any:
    """diffusers' scheduler, set to these steps.

    Its configuration may have keys that its class does not know, as one that was converted.
    """
    scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)  # as SDXL's pipeline; timesteps that are cut off may repeat
    return scheduler


def their_latents(theirs: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    takes = inspect.signature(theirs.step).parameters
    extra: dict[str, Any] = {"generator": generator} if "generator" in takes else {}
    if "eta" in takes:
        extra["eta"] = 0.0  # as diffusers' pipelines pass it
    x = torch.randn(SHAPE, generator=generator) * theirs.init_noise_sigma
    for timestep in theirs.timesteps:
        output = unet(theirs.scale_model_input(x, timestep), float(timestep))
        x = theirs.step(output, timestep, x, **extra).prev_sample
    return x


def our_latents(config: dict[str, Any], steps: int) -> np.ndarray:
    ours = make_sampler(parse_config(config), steps)
    generator = torch.Generator().manual_seed(5)

    def draw() -> np.ndarray:
        return torch.randn(SHAPE, generator=generator).numpy()

    x = draw() * np.float32(ours.initial_scale)
    for index, timestep in enumerate(ours.timesteps):
        sample = torch.from_numpy(ours.model_input(x, index))
        x = ours.step(unet(sample, float(timestep)).numpy(), x, index, draw)
    assert x.dtype == np.float32
    return x


def decibels(found: np.ndarray, expected: np.ndarray) -> float:
    error = np.mean((found.astype(np.float64) - expected) ** 2)
    return float(10 * np.log10(np.mean(expected.astype(np.float64) ** 2) / max(error, 1e-30)))


def check(config: dict[str, Any], steps: int, floor: float = FLOOR_DB) -> None:
    """Same latents; an error here where diffusers ends in one.

    Where its latents are not finite, there are none here, or finite ones: UniPC with `bh1` takes
    zero times infinity at its last step, which has no term of that kind.
    """
    config = {**STABLE_DIFFUSION, **config}
    try:
        theirs = their_session(config, steps)
        expected = their_latents(theirs).numpy()
    except (ValueError, IndexError, RuntimeError):
        with pytest.raises(InputError) as caught:
            our_latents(config, steps)
        assert "\n" not in str(caught.value)
        return
    if not np.isfinite(expected).all():
        with contextlib.suppress(InputError):
            assert np.isfinite(our_latents(config, steps)).all()
        return
    ours = make_sampler(parse_config(config), steps)
    # Fractions follow from logarithms, which are rounded once more or less.
    np.testing.assert_allclose(ours.timesteps, theirs.timesteps.float(), rtol=2.4e-7)
    assert decibels(our_latents(config, steps), expected) >= floor


def matrix() -> list[tuple[str, str, str, bool]]:
    everything = itertools.product(
        SAMPLERS, ("leading", "trailing", "linspace"), ("epsilon", "v_prediction"), (False, True)
    )
    # No picture follows from a noise prediction at a level of noise alone, which is refused where
    # the file is read; some classes do not know zero terminal SNR.
    return [
        (name, spacing, prediction, zero_snr)
        for name, spacing, prediction, zero_snr in everything
        if not zero_snr
        or (prediction == "v_prediction" and "rescale_betas_zero_snr" in OBEYED[name])
    ]


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(("name", "spacing", "prediction", "zero_snr"), matrix())
def test_sessions(name, spacing, prediction, zero_snr, steps):
    config = {
        "_class_name": name,
        "timestep_spacing": spacing,
        "prediction_type": prediction,
        "rescale_betas_zero_snr": zero_snr,
    }
    # From sigma 4096 down to 3, the level below the next is the root of a difference of two squares
    # that agree in six digits.
    cancels = zero_snr and name == "EulerAncestralDiscreteScheduler"
    check(config, steps, floor=80.0 if cancels else FLOOR_DB)


TO_SIGMA_MIN = {"final_sigmas_type": "sigma_min"}
SPACED = [name for name in SAMPLERS if "use_karras_sigmas" in OBEYED[name]]


@pytest.mark.parametrize("rule", ["karras", "exponential", "beta"])
@pytest.mark.parametrize("name", SPACED)
def test_levels_by_a_rule(name, rule):
    config = {"_class_name": name, f"use_{rule}_sigmas": True}
    for steps in STEPS:
        check({**config, "timestep_spacing": "leading"}, steps)
        check(
            {**config, "prediction_type": "v_prediction", "final_sigmas_type": "sigma_min"}, steps
        )
    check({**config, "sigma_min": 0.05, "sigma_max": 10.0}, 10)


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 16])
@pytest.mark.parametrize("solver_type", ["midpoint", "heun"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("kind", ["dpmsolver++", "sde-dpmsolver++"])
def test_dpm_solver(kind, order, solver_type, steps):
    config = {
        "_class_name": "DPMSolverMultistepScheduler",
        "algorithm_type": kind,
        "solver_order": order,
        "solver_type": solver_type,
    }
    lu = {"use_lu_lambdas": True}
    for more in (
        {},
        {"euler_at_final": True, **TO_SIGMA_MIN},
        {"lower_order_final": False},
        {"lower_order_final": False, **TO_SIGMA_MIN},
        lu,
        {**lu, **TO_SIGMA_MIN, "lower_order_final": False},
    ):
        check({**config, **more}, steps)


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize("solver_type", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("predict_x0", [True, False])
def test_unipc(predict_x0, order, solver_type, steps):
    config = {
        "_class_name": "UniPCMultistepScheduler",
        "predict_x0": predict_x0,
        "solver_order": order,
        "solver_type": solver_type,
    }
    for more in (
        {},
        TO_SIGMA_MIN,
        {"lower_order_final": False},
        {"lower_order_final": False, **TO_SIGMA_MIN},
        {"disable_corrector": [0, 2], **TO_SIGMA_MIN},
        {"use_karras_sigmas": True, **TO_SIGMA_MIN},
    ):
        check({**config, **more}, steps)


@pytest.mark.parametrize("steps", [*STEPS, 5])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("alpha_to_one", [True, False])
def test_pndm_with_runge_kutta_steps(alpha_to_one, spacing, prediction, steps):
    config = {
        "_class_name": "PNDMScheduler",
        "skip_prk_steps": False,
        "set_alpha_to_one": alpha_to_one,
        "timestep_spacing": spacing,
        "prediction_type": prediction,
    }
    check(config, steps)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_small_log", "fixed_large", None])
def test_ddpm(variance, steps):
    config = {"_class_name": "DDPMScheduler", "variance_type": variance}
    check(config, steps)
    check({**config, "clip_sample": True, "timestep_spacing": "trailing"}, steps)


@pytest.mark.parametrize("name", SAMPLERS)
def test_many_steps(name):
    check({"_class_name": name}, 50)
    check({"_class_name": name, "use_beta_sigmas": True}, 50)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("other", SAMPLERS)
def test_configurations_of_one_class_are_read_by_another_as_diffusers_does(name, other):
    theirs = getattr(diffusers, other)(prediction_type="v_prediction")
    config = {key: value for key, value in theirs.config.items() if not key.startswith("_")}
    check({**config, "_class_name": name}, 6)
