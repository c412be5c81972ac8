"""Every sampler against diffusers' class of the same name, over their settings."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgekd.errors import InputError
from edgekd.libraries import diffusers
from edgekd.runtime import scheduler_config
from edgekd.runtime.noise_schedule import alphas_cumprod
from edgekd.runtime.scheduler_config import parse_config
from edgekd.runtime.schedulers import make_scheduler

NAMES = [
    "DDIMScheduler",
    "LCMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
]
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
}


def fake_unet(x: torch.Tensor, timestep: float) -> torch.Tensor:
    """Any function of both; as large as a noise prediction."""
    return torch.sin(x * 1.7 + timestep / 300) * 1.2


def diffusers_scheduler(config: dict[str, Any]) -> Any:
    kind = getattr(diffusers, config["_class_name"])
    known = inspect.signature(kind.__init__).parameters
    return kind(**{key: value for key, value in config.items() if key in known})


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(NAMES), st.fixed_dictionaries(common), st.sampled_from([1, 2, 4, 7, 25]))
def test_every_step_is_diffusers(name, config, steps):
    config = {"_class_name": name, **config}
    # No picture follows from a noise prediction at a level of noise alone: 0 / 0 there and here.
    assume(not (config["rescale_betas_zero_snr"] and config["prediction_type"] == "epsilon"))
    theirs = diffusers_scheduler(config)
    theirs.set_timesteps(steps)
    # Some roundings of float32, 6e-8 each. The tables with zero terminal SNR are not the same to
    # the last bit (below), and at the first levels, where 1 - alpha-bar is 1e-4, one bit of
    # alpha-bar is 6e-4 of it.
    scale, rtol = (1e-4, 1e-3) if config["rescale_betas_zero_snr"] else (4e-6, 1e-6)
    ours = make_scheduler(parse_config(config), steps)
    np.testing.assert_array_equal(ours.timesteps, theirs.timesteps.float())
    np.testing.assert_allclose(ours.initial_scale, float(theirs.init_noise_sigma), rtol=rtol)
    # Two generators in step: a draw that only one side makes shows at the next step.
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    extra = {} if name == "DDIMScheduler" else {"generator": generators[0]}
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
        close(found, following, x, scale)
        x = following
    assert torch.equal(*(generator.get_state() for generator in generators))


def close(found: np.ndarray, expected: torch.Tensor, before: torch.Tensor, scale: float) -> None:
    # Relative to the latents before or after the step, whichever are larger: a picture behind
    # nearly pure noise is a small difference of large terms.
    atol = scale * float(max(expected.abs().max(), before.abs().max()))
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=atol)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_tables_are_torchs(name, schedule, zero_snr):
    config = {"beta_schedule": schedule, "rescale_betas_zero_snr": zero_snr}
    expected = getattr(diffusers, name)(**config).alphas_cumprod.numpy()
    known = {"_class_name": name, "prediction_type": "v_prediction", **config}
    found = alphas_cumprod(parse_config(known))
    if zero_snr:
        # Euler's classes keep the last level off zero in this very table.
        found, expected = found[:-1], expected[:-1]
    # Torch's linspace and roots are rounded as its vector code for the processor does it; with zero
    # terminal SNR, nearly equal roots are subtracted from one another.
    np.testing.assert_allclose(found, expected, rtol=5e-5 if zero_snr else 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_diffusers(name):
    expected = dict(getattr(diffusers, name)().config)
    found = parse_config({"_class_name": name})
    for key in scheduler_config._OBEYED[name]:
        assert getattr(found, key) == expected[key], key


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_of_diffusers_has_a_place(name):
    own = set(inspect.signature(getattr(diffusers, name).__init__).parameters) - {"self"}
    obeyed = scheduler_config._OBEYED[name] | set(scheduler_config._NEUTRAL[name])
    # What diffusers obeys is never passed over, except where it has no effect by itself.
    without = {"dynamic_thresholding_ratio", "sample_max_value", "sigma_min", "sigma_max"}
    assert own - obeyed <= without
    assert obeyed <= own
    # A configuration converted from any compatible scheduler can be read.
    for other in getattr(diffusers, name)().compatibles:
        parameters = set(inspect.signature(other.__init__).parameters) - {"self", "args", "kwargs"}
        assert parameters <= obeyed | scheduler_config._WITHOUT_EFFECT, other


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"_class_name": "PNDMScheduler"}, "the scheduler must be one of DDIM.*PNDMScheduler"),
        ({"thresholding": True}, "`thresholding` of DDIMScheduler must be False.*True"),
        ({"trained_betas": [0.1]}, "`trained_betas` of DDIMScheduler must be None"),
        ({"prediction_type": "sample"}, "`prediction_type` must be one of epsilon"),
        ({"beta_schedule": "squaredcos_cap_v2"}, "`beta_schedule` must be one of linear"),
        ({"timestep_spacing": "even"}, "`timestep_spacing` must be one of"),
        ({"novelty": 3}, "the settings of DDIMScheduler must be known.*novelty=3"),
        ({"num_train_timesteps": "1000"}, "`num_train_timesteps` must be of type int"),
        ({"clip_sample": 1}, "`clip_sample` must be of type bool"),
        ({"beta_end": 2.0}, "beta_end < 1"),
        ({"beta_start": float("nan")}, "0 < beta_start"),
        ({"num_train_timesteps": 1}, "2 <= num_train_timesteps"),
        ({"rescale_betas_zero_snr": True}, "not .rescale_betas_zero_snr and prediction_type"),
        ({"_class_name": ["DDIMScheduler"]}, "the scheduler must be one of"),
        ({"steps_offset": -1}, "0 <= steps_offset"),
        (
            {"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True},
            "`use_karras_sigmas` of EulerDiscreteScheduler must be False",
        ),
        (
            {"_class_name": "LCMScheduler", "original_inference_steps": 1001},
            "original_inference_steps <= num_train_timesteps",
        ),
    ],
)
def test_settings_that_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        parse_config({"_class_name": "DDIMScheduler", **values})


@pytest.mark.parametrize(
    ("name", "steps", "message"),
    [
        ("DDIMScheduler", 0, "1 <= steps <= 1000"),
        ("DDIMScheduler", 1001, "1 <= steps <= 1000"),
        ("LCMScheduler", 51, "original_inference_steps=50"),
        ("EulerDiscreteScheduler", 0, "1 <= steps"),
    ],
)
def test_steps_that_are_refused(name, steps, message):
    with pytest.raises(InputError, match=message):
        make_scheduler(parse_config({"_class_name": name}), steps)


def test_a_timestep_past_the_last_is_refused():
    config = parse_config({"_class_name": "DDIMScheduler", "steps_offset": 1})
    with pytest.raises(InputError, match="the first timestep must be below 1000"):
        make_scheduler(config, 1000)
