"""Which settings each sampler of diffusers obeys, and which values are implemented here."""

from __future__ import annotations

from typing import Any

_COMMON = {
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "prediction_type",
    "timestep_spacing",
    "steps_offset",
}
_ZERO_SNR = {"rescale_betas_zero_snr"}
_CLIPPING = {"clip_sample", "clip_sample_range"}
# diffusers reads the bounds from the configuration, also where the class does not declare them.
_SIGMAS = {
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "sigma_min",
    "sigma_max",
}
_MULTISTEP = {"solver_order", "solver_type", "lower_order_final", "final_sigmas_type"}

# Class -> the settings of `SchedulerConfig` that it obeys.
OBEYED: dict[str, set[str]] = {
    "DDIMScheduler": _COMMON | _ZERO_SNR | _CLIPPING | {"set_alpha_to_one"},
    "DDPMScheduler": _COMMON | _ZERO_SNR | _CLIPPING | {"variance_type"},
    "DPMSolverMultistepScheduler": _COMMON
    | _ZERO_SNR
    | _SIGMAS
    | _MULTISTEP
    | {"algorithm_type", "euler_at_final", "use_lu_lambdas"},
    "EulerAncestralDiscreteScheduler": _COMMON | _ZERO_SNR,
    "EulerDiscreteScheduler": _COMMON | _ZERO_SNR | _SIGMAS | {"final_sigmas_type"},
    "HeunDiscreteScheduler": _COMMON | _SIGMAS | _CLIPPING,
    "LCMScheduler": _COMMON
    | _ZERO_SNR
    | _CLIPPING
    | {"set_alpha_to_one", "original_inference_steps", "timestep_scaling"},
    "PNDMScheduler": _COMMON | {"set_alpha_to_one", "skip_prk_steps"},
    "TCDScheduler": _COMMON | _ZERO_SNR | {"original_inference_steps"},
    "UniPCMultistepScheduler": _COMMON
    | _ZERO_SNR
    | _SIGMAS
    | _MULTISTEP
    | {"predict_x0", "disable_corrector"},
}
SAMPLERS = tuple(OBEYED)

_DISTILLED: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
# Where diffusers' defaults differ from those of `SchedulerConfig`.
DEFAULTS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {"clip_sample": True},
    "DDPMScheduler": {"clip_sample": True},
    "DPMSolverMultistepScheduler": {"timestep_spacing": "linspace"},
    "EulerAncestralDiscreteScheduler": {"timestep_spacing": "linspace"},
    "EulerDiscreteScheduler": {"timestep_spacing": "linspace"},
    "HeunDiscreteScheduler": {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "timestep_spacing": "linspace",
    },
    "LCMScheduler": _DISTILLED,
    "PNDMScheduler": {"set_alpha_to_one": False},
    "TCDScheduler": _DISTILLED,
    "UniPCMultistepScheduler": {"timestep_spacing": "linspace", "solver_type": "bh2"},
}

_CHOICES: dict[str, tuple[Any, ...]] = {
    "algorithm_type": ("dpmsolver++", "sde-dpmsolver++"),
    "beta_schedule": ("linear", "scaled_linear"),
    "final_sigmas_type": ("zero", "sigma_min"),
    "prediction_type": ("epsilon", "v_prediction"),
    "solver_order": (1, 2, 3),
    "timestep_spacing": ("leading", "linspace", "trailing"),
    "variance_type": ("fixed_small", "fixed_small_log", "fixed_large"),
}
_SOLVER_TYPES = {
    "DPMSolverMultistepScheduler": ("midpoint", "heun"),
    "UniPCMultistepScheduler": ("bh1", "bh2"),
}
# What diffusers reads where a configuration was converted from another class.
_READ_AS: dict[tuple[str, str], dict[Any, Any]] = {
    ("DPMSolverMultistepScheduler", "algorithm_type"): {"deis": "dpmsolver++"},
    ("DPMSolverMultistepScheduler", "solver_type"): dict.fromkeys(
        ("logrho", "bh1", "bh2"), "midpoint"
    ),
    ("UniPCMultistepScheduler", "solver_type"): dict.fromkeys(
        ("logrho", "midpoint", "heun"), "bh2"
    ),
    ("DDPMScheduler", "variance_type"): {None: "fixed_small"},
}


def choices(name: str, key: str) -> tuple[Any, ...] | None:
    """The values of a setting that are implemented; None: all of its type."""
    return _SOLVER_TYPES[name] if key == "solver_type" else _CHOICES.get(key)


def read_as(name: str, key: str, value: Any) -> Any:
    """A value as the class reads it."""
    known = _READ_AS.get((name, key), {})
    return known.get(value, value) if isinstance(value, str | None) else value


_OFF: tuple[Any, ...] = (False, None)
_THRESHOLDING: dict[str, tuple[Any, ...]] = {"thresholding": _OFF, "trained_betas": (None,)}
_NO_FLOW: dict[str, tuple[Any, ...]] = {"use_flow_sigmas": _OFF, "use_dynamic_shifting": _OFF}
# Settings that a class obeys in diffusers, and the values under which they change nothing.
NEUTRAL: dict[str, dict[str, tuple[Any, ...]]] = {
    "DDIMScheduler": _THRESHOLDING,
    "DDPMScheduler": _THRESHOLDING,
    "DPMSolverMultistepScheduler": {
        **_THRESHOLDING,
        **_NO_FLOW,
        "lambda_min_clipped": (float("-inf"), "-Infinity"),
        "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large"),
    },
    "EulerAncestralDiscreteScheduler": {"trained_betas": (None,)},
    "EulerDiscreteScheduler": {
        "trained_betas": (None,),
        "interpolation_type": ("linear",),
        "timestep_type": ("discrete",),
    },
    "HeunDiscreteScheduler": {"trained_betas": (None,)},
    "LCMScheduler": _THRESHOLDING,
    "PNDMScheduler": {"trained_betas": (None,)},
    "TCDScheduler": {"trained_betas": (None,)},
    "UniPCMultistepScheduler": {
        **_THRESHOLDING,
        **_NO_FLOW,
        "shift_terminal": (None,),
        "solver_p": (None,),
    },
}

# Of other schedulers of diffusers, or without effect unless one above is set.
WITHOUT_EFFECT = {
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
    "rescale_betas_zero_snr",
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
