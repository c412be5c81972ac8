"""`scheduler_config.json`: the settings that the schedulers here know, and no others.

A setting that would change pictures in a way that is not implemented here is an error. Settings
that diffusers itself ignores for the scheduler's class are passed over: configurations that were
converted from another scheduler carry them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekd.errors import InputError


@dataclass(frozen=True)
class SchedulerConfig:
    """Settings of one scheduler, defaults filled in.

    Attributes:
        name: class name in diffusers.
        num_train_timesteps: T, how many noise levels the model was trained on.
        beta_start, beta_end, beta_schedule: the noise that each of them adds.
        rescale_betas_zero_snr: the last level is noise alone.
        prediction_type: what the U-Net predicts: `epsilon` or `v_prediction`.
        timestep_spacing, steps_offset: which levels a session visits.
        clip_sample, clip_sample_range: whether and where predicted pictures are cut off.
        set_alpha_to_one: DDIM's last step ends at no noise, else at the first level.
        original_inference_steps, timestep_scaling: of latent consistency models.
        final_sigmas_type: Euler's last noise level: `zero` or `sigma_min`.
    """

    name: str
    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    rescale_betas_zero_snr: bool = False
    prediction_type: str = "epsilon"
    timestep_spacing: str = "leading"
    steps_offset: int = 0
    clip_sample: bool = False
    clip_sample_range: float = 1.0
    set_alpha_to_one: bool = True
    original_inference_steps: int = 50
    timestep_scaling: float = 10.0
    final_sigmas_type: str = "zero"


_COMMON = {
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "rescale_betas_zero_snr",
    "prediction_type",
    "timestep_spacing",
    "steps_offset",
}
_CLIPPING = {"clip_sample", "clip_sample_range", "set_alpha_to_one"}
# Class -> the settings above that it obeys.
_OBEYED = {
    "DDIMScheduler": _COMMON | _CLIPPING,
    "LCMScheduler": _COMMON | _CLIPPING | {"original_inference_steps", "timestep_scaling"},
    "EulerDiscreteScheduler": _COMMON | {"final_sigmas_type"},
    "EulerAncestralDiscreteScheduler": _COMMON,
}
SAMPLERS = tuple(_OBEYED)
# Where diffusers' defaults differ from those above.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {"clip_sample": True},
    "LCMScheduler": {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"},
    "EulerDiscreteScheduler": {"timestep_spacing": "linspace"},
    "EulerAncestralDiscreteScheduler": {"timestep_spacing": "linspace"},
}
_CHOICES = {
    "beta_schedule": ("linear", "scaled_linear"),
    "prediction_type": ("epsilon", "v_prediction"),
    "timestep_spacing": ("leading", "linspace", "trailing"),
    "final_sigmas_type": ("zero", "sigma_min"),
}
# Settings that a class obeys in diffusers, and the values under which they change nothing.
_THRESHOLDING = {"thresholding": (False, None), "trained_betas": (None,)}
_NEUTRAL: dict[str, dict[str, tuple[Any, ...]]] = {
    "DDIMScheduler": _THRESHOLDING,
    "LCMScheduler": _THRESHOLDING,
    "EulerDiscreteScheduler": {
        "trained_betas": (None,),
        "interpolation_type": ("linear",),
        "timestep_type": ("discrete",),
        "use_beta_sigmas": (False, None),
        "use_exponential_sigmas": (False, None),
        "use_karras_sigmas": (False, None),
    },
    "EulerAncestralDiscreteScheduler": {"trained_betas": (None,)},
}
# Of other schedulers of diffusers, or without effect unless one above is set.
_WITHOUT_EFFECT = {
    "algorithm_type",
    "clip_sample",
    "clip_sample_range",
    "disable_corrector",
    "dynamic_thresholding_ratio",
    "dynamic_shift",
    "euler_at_final",
    "final_sigmas_type",
    "flow_shift",
    "interpolation_type",
    "lambda_min_clipped",
    "lower_order_final",
    "max_beta",
    "noise_sampler_seed",
    "original_inference_steps",
    "predict_x0",
    "rho",
    "sample_max_value",
    "set_alpha_to_one",
    "shift_terminal",
    "sigma_data",
    "sigma_max",
    "sigma_min",
    "sigma_schedule",
    "skip_prk_steps",
    "solver_order",
    "solver_p",
    "solver_type",
    "thresholding",
    "time_shift_type",
    "timestep_scaling",
    "timestep_type",
    "use_beta_sigmas",
    "use_dynamic_shifting",
    "use_exponential_sigmas",
    "use_flow_sigmas",
    "use_karras_sigmas",
    "use_lu_lambdas",
    "variance_type",
}


def parse_config(values: Mapping[str, Any]) -> SchedulerConfig:
    """Settings from a `scheduler_config.json`.

    Raises:
        InputError: an unknown scheduler or setting, or a value that is not supported.
    """
    name = values.get("_class_name")
    if not isinstance(name, str) or name not in _OBEYED:
        raise InputError(f"the scheduler must be one of {', '.join(_OBEYED)}", str(name))
    settings = dict(_DEFAULTS[name])
    for key, value in values.items():
        if key.startswith("_"):
            continue
        if key in _OBEYED[name]:
            settings[key] = _checked(key, value)
        elif key in _NEUTRAL[name]:
            _require_neutral(name, key, value)
        elif key not in _WITHOUT_EFFECT:
            raise InputError(f"the settings of {name} must be known to edgekd", f"{key}={value!r}")
    config = SchedulerConfig(name, **settings)
    _check_ranges(config)
    return config


def _checked(key: str, value: Any) -> Any:
    example = getattr(SchedulerConfig, key)
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise InputError(f"`{key}` must be one of {', '.join(_CHOICES[key])}", repr(value))
        return value
    if isinstance(example, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(example):
        raise InputError(f"`{key}` must be of type {type(example).__name__}", repr(value))
    return value


def _require_neutral(name: str, key: str, value: Any) -> None:
    accepted = _NEUTRAL[name][key]
    if value not in accepted:
        raise InputError(
            f"`{key}` of {name} must be {accepted[0]!r}: nothing else is implemented", repr(value)
        )


def _check_ranges(config: SchedulerConfig) -> None:
    count = config.num_train_timesteps
    rules = {
        "2 <= num_train_timesteps <= 1000000": 2 <= count <= 1_000_000,
        "0 < beta_start <= beta_end < 1": 0 < config.beta_start <= config.beta_end < 1,
        "0 <= steps_offset < num_train_timesteps": 0 <= config.steps_offset < count,
        "clip_sample_range > 0": config.clip_sample_range > 0,
        "timestep_scaling > 0": config.timestep_scaling > 0,
    }
    if config.name == "LCMScheduler":
        fits = 1 <= config.original_inference_steps <= count
        rules["1 <= original_inference_steps <= num_train_timesteps"] = fits
    # 0 / 0: nothing follows from the noise of noise alone.
    zero_snr = config.rescale_betas_zero_snr and config.prediction_type == "epsilon"
    rules["not (rescale_betas_zero_snr and prediction_type == 'epsilon')"] = not zero_snr
    for rule, holds in rules.items():
        if not holds:
            raise InputError(f"`{rule}` must hold in the scheduler's settings", str(config))
