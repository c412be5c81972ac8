import inspect

import pytest

from edgekd.errors import InputError
from edgekd.libraries import diffusers
from edgekd.runtime.scheduler_config import parse_config
from edgekd.runtime.scheduler_settings import NEUTRAL, OBEYED, SAMPLERS, WITHOUT_EFFECT

DPM_SOLVER = {"_class_name": "DPMSolverMultistepScheduler"}
# Declared by diffusers' class, which computes without them.
UNUSED = {
    "TCDScheduler": {
        "clip_sample",
        "clip_sample_range",
        "set_alpha_to_one",
        "thresholding",
        "timestep_scaling",
    }
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_defaults_are_diffusers(name):
    expected = {**dict(getattr(diffusers, name)().config), "disable_corrector": ()}
    found = parse_config({"_class_name": name})
    for key in OBEYED[name]:
        assert getattr(found, key) == expected.get(key), key


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_setting_of_diffusers_has_a_place(name):
    own = set(inspect.signature(getattr(diffusers, name).__init__).parameters) - {"self"}
    obeyed = OBEYED[name] | set(NEUTRAL[name])
    # What diffusers obeys is never passed over, except where it has no effect by itself.
    without = {"dynamic_thresholding_ratio", "sample_max_value", "flow_shift", "time_shift_type"}
    assert own - obeyed <= without | UNUSED.get(name, set())
    # diffusers looks for these in any configuration.
    assert obeyed - own <= {"sigma_min", "sigma_max"}
    # A configuration converted from any compatible scheduler can be read.
    for other in getattr(diffusers, name)().compatibles:
        parameters = set(inspect.signature(other.__init__).parameters) - {"self", "args", "kwargs"}
        assert parameters <= obeyed | WITHOUT_EFFECT, other


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"_class_name": "LMSDiscreteScheduler"},
            "the scheduler must be one of DDIM.*, but got LMSDiscreteScheduler. .*--sampler",
        ),
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
            {"_class_name": "EulerDiscreteScheduler", "interpolation_type": "log_linear"},
            "`interpolation_type` of EulerDiscreteScheduler must be 'linear'",
        ),
        (
            {
                "_class_name": "EulerDiscreteScheduler",
                "use_karras_sigmas": True,
                "use_beta_sigmas": True,
            },
            "at most one of `use_",
        ),
        (
            {"_class_name": "HeunDiscreteScheduler", "sigma_min": 2, "sigma_max": 1.0},
            "0 < sigma_min < sigma_max",
        ),
        (
            {"_class_name": "HeunDiscreteScheduler", "sigma_max": float("inf")},
            "sigma_max < inf",
        ),
        ({**DPM_SOLVER, "solver_order": 4}, "`solver_order` must be one of 1, 2, 3, but got 4"),
        ({**DPM_SOLVER, "solver_order": True}, "`solver_order` must be one of 1, 2, 3"),
        ({**DPM_SOLVER, "algorithm_type": "dpmsolver"}, "`algorithm_type` must be one of dpms"),
        ({**DPM_SOLVER, "use_flow_sigmas": True}, "`use_flow_sigmas` of DPM"),
        ({**DPM_SOLVER, "lambda_min_clipped": -5.1}, "`lambda_min_clipped` of DPM"),
        ({**DPM_SOLVER, "variance_type": "learned_range"}, "`variance_type` of DPM"),
        ({**DPM_SOLVER, "solver_type": ["heun"]}, "`solver_type` must be one of midpoint, heun"),
        (
            {"_class_name": "UniPCMultistepScheduler", "disable_corrector": [True]},
            "`disable_corrector` must be a list of integers",
        ),
        ({"_class_name": "DDPMScheduler", "variance_type": "learned"}, "must be one of fixed_"),
        ({"_class_name": "PNDMScheduler", "skip_prk_steps": None}, "must be of type bool"),
        (
            {"_class_name": "LCMScheduler", "original_inference_steps": 1001},
            "original_inference_steps <= num_train_timesteps",
        ),
    ],
)
def test_settings_that_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        parse_config({"_class_name": "DDIMScheduler", **values})


def test_nulls_that_diffusers_takes():
    config = {"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": None, "sigma_min": None}
    found = parse_config(config)
    assert (found.use_karras_sigmas, found.sigma_min) == (False, None)
    assert parse_config({**config, "sigma_min": 1}).sigma_min == 1.0
