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
from edgekd.runtime.scheduler_settings import (
    DEFAULTS,
    NEUTRAL,
    OBEYED,
    SAMPLERS,
    WITHOUT_EFFECT,
    choices,
    read_as,
)

_BOUNDS = {"sigma_min", "sigma_max"}
# Which diffusers also takes as null.
_NULLABLE = {"use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", *_BOUNDS}


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
        set_alpha_to_one: the last step ends at no noise, else at the first level.
        original_inference_steps, timestep_scaling: of latent consistency models.
        final_sigmas_type: the last noise level: `zero` or `sigma_min`.
        use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas, use_lu_lambdas: the rule by
            which noise levels are spaced; none: by timesteps.
        sigma_min, sigma_max: ends of levels that are spaced by a rule; None: the model's own.
        skip_prk_steps: PNDM starts with linear multistep steps.
        solver_order, solver_type, algorithm_type: of DPM-Solver++ and UniPC.
        lower_order_final, euler_at_final: solvers of a high order end with lower ones.
        predict_x0: UniPC integrates pictures, else noise.
        disable_corrector: steps of UniPC that are not corrected.
        variance_type: of the noise that DDPM adds.
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
    use_karras_sigmas: bool = False
    use_exponential_sigmas: bool = False
    use_beta_sigmas: bool = False
    use_lu_lambdas: bool = False
    sigma_min: float | None = None
    sigma_max: float | None = None
    skip_prk_steps: bool = False
    solver_order: int = 2
    solver_type: str = "midpoint"
    algorithm_type: str = "dpmsolver++"
    lower_order_final: bool = True
    euler_at_final: bool = False
    predict_x0: bool = True
    disable_corrector: tuple[int, ...] = ()
    variance_type: str = "fixed_small"


def parse_config(values: Mapping[str, Any]) -> SchedulerConfig:
    """Settings from a `scheduler_config.json`.

    Raises:
        InputError: an unknown scheduler or setting, or a value that is not supported.
    """
    name = values.get("_class_name")
    if not isinstance(name, str) or name not in OBEYED:
        raise InputError(
            f"the scheduler must be one of {', '.join(SAMPLERS)}",
            str(name),
            "Choose one with --sampler.",
        )
    settings = dict(DEFAULTS[name])
    for key, value in values.items():
        if key.startswith("_"):
            continue
        if key in OBEYED[name]:
            settings[key] = _checked(name, key, read_as(name, key, value))
        elif key in NEUTRAL[name]:
            _require_neutral(name, key, value)
        elif key not in WITHOUT_EFFECT:
            raise InputError(f"the settings of {name} must be known to edgekd", f"{key}={value!r}")
    config = SchedulerConfig(name, **settings)
    _check_ranges(config)
    return config


def _checked(name: str, key: str, value: Any) -> Any:
    accepted = choices(name, key)
    if accepted is not None:
        if not any(type(value) is type(one) and value == one for one in accepted):
            raise InputError(f"`{key}` must be one of {', '.join(map(str, accepted))}", repr(value))
        return value
    if key in _NULLABLE and value is None:
        return getattr(SchedulerConfig, key)
    if key == "disable_corrector":
        if not isinstance(value, list | tuple) or any(type(one) is not int for one in value):
            raise InputError(f"`{key}` must be a list of integers", repr(value))
        return tuple(value)
    kind = float if key in _BOUNDS else type(getattr(SchedulerConfig, key))
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise InputError(f"`{key}` must be of type {kind.__name__}", repr(value))
    return value


def _require_neutral(name: str, key: str, value: Any) -> None:
    accepted = NEUTRAL[name][key]
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
        "0 < sigma_min < sigma_max < inf": _are_bounds(config.sigma_min, config.sigma_max),
    }
    if "original_inference_steps" in OBEYED[config.name]:
        fits = 1 <= config.original_inference_steps <= count
        rules["1 <= original_inference_steps <= num_train_timesteps"] = fits
    spacings = [config.use_karras_sigmas, config.use_exponential_sigmas, config.use_beta_sigmas]
    rules["at most one of `use_{karras,exponential,beta}_sigmas`"] = sum(spacings) <= 1
    # 0 / 0: nothing follows from the noise of noise alone.
    zero_snr = config.rescale_betas_zero_snr and config.prediction_type == "epsilon"
    rules["not (rescale_betas_zero_snr and prediction_type == 'epsilon')"] = not zero_snr
    for rule, holds in rules.items():
        if not holds:
            raise InputError(f"`{rule}` must hold in the scheduler's settings", str(config))


def _are_bounds(low: float | None, high: float | None) -> bool:
    """Both may be left open."""
    return 0 < (1e-9 if low is None else low) < (1e9 if high is None else high) < float("inf")
