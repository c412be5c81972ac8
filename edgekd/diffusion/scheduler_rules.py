"""Rules for a teacher's scheduler: impossible settings are found before any work."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any

import torch

from edgekd.diffusion.components import CONFIG_FAULTS, shorten
from edgekd.errors import InputError

PREDICTIONS = ("epsilon", "v_prediction")
_STEPS = 10  # a sampler of several orders needs some


def check_scheduler(scheduler: Any, path: Path) -> None:
    """A discrete diffusion schedule whose target is known.

    Raises:
        InputError: another kind of scheduler, or an unknown prediction type.
    """
    config = scheduler.config
    # Not from the config: it keeps keys of another scheduler, which have no effect.
    fields = inspect.signature(type(scheduler).__init__).parameters
    if not {"prediction_type", "beta_schedule"} <= set(fields):
        raise InputError(
            f"`{path}` must be of a scheduler with betas and a prediction type",
            type(scheduler).__name__,
            "Flow-matching pipelines are not Stable Diffusion 1, 2 or XL.",
        )
    if config.prediction_type not in PREDICTIONS:
        raise InputError(
            f"`prediction_type` in `{path}` must be {' or '.join(PREDICTIONS)}",
            repr(config.prediction_type),
        )
    _check_levels(scheduler, path)
    _check_draws(scheduler, path)


def _check_levels(scheduler: Any, path: Path) -> None:
    """alphas_cumprod [T], the share of signal at each noise level."""
    config, where = scheduler.config, f"the {type(scheduler).__name__} in `{path}`"
    alphas = scheduler.alphas_cumprod
    if len(alphas) < 2:
        raise InputError(f"{where} must have two noise levels or more", str(len(alphas)))
    falling = bool(torch.isfinite(alphas).all() and (alphas[1:] <= alphas[:-1]).all())
    if not (falling and 1 >= alphas[0] > alphas[-1] >= 0 and alphas[-2] > 0):
        raise InputError(
            f"`alphas_cumprod` of {where} must fall, from 1 at most to 0 at least",
            f"{float(alphas[0]):.6g} to {float(alphas[-1]):.6g} with "
            f"beta_start={config.beta_start!r}, beta_end={config.beta_end!r}",
        )
    # Some classes keep the last level off zero in the table, and start from noise alone all the
    # same. The setting of a class that does not read it has no effect.
    obeyed = "rescale_betas_zero_snr" in inspect.signature(type(scheduler).__init__).parameters
    no_signal = alphas[-1] == 0 or (obeyed and config.rescale_betas_zero_snr)
    if config.prediction_type == "epsilon" and no_signal:
        raise InputError(
            f"{where} must keep a signal at its last level, for `prediction_type` is epsilon",
            "zero terminal SNR (`rescale_betas_zero_snr`)",
            "No picture follows from what a U-Net says of noise alone.",
        )


def _check_draws(scheduler: Any, path: Path) -> None:
    """Draw with the scheduler, in a few steps: other settings are only read then."""
    steps = min(_STEPS, scheduler.config.num_train_timesteps - 1)
    steps = min(steps, scheduler.config.get("original_inference_steps") or steps)
    fault = _fault(scheduler, steps)
    if fault:
        rule = f"the {type(scheduler).__name__} in `{path}` must draw finite latents"
        raise InputError(f"{rule} in {steps} steps", fault)


def check_steps(scheduler: Any, steps: int) -> None:
    """Whether a scheduler takes so many steps; each class has bounds of its own.

    Raises:
        InputError: it does not.
    """
    fault = _fault(scheduler, steps)
    if fault:
        raise InputError(
            f"`steps` must be as many as the {type(scheduler).__name__} takes",
            f"{steps} ({fault})",
            "Take more or fewer, or another sampler.",
        )


def fewest_steps(scheduler: Any, most: int, least: int = 1) -> int:
    """The fewest steps that a scheduler takes, of `least` to `most`, which it takes."""
    steps = range(least, most)
    return next((one for one in steps if _fault(scheduler, one) is None), most)


def _fault(scheduler: Any, steps: int) -> str | None:
    """What is wrong with a session of the scheduler."""
    generator = torch.Generator().manual_seed(0)
    try:
        trial = copy.deepcopy(scheduler)  # which remembers the steps
        trial.set_timesteps(steps)
        latents = torch.ones(1, 4, 2, 2)
        takes = inspect.signature(trial.step).parameters
        extra = {"generator": generator} if "generator" in takes else {}
        for timestep in trial.timesteps:
            output = trial.scale_model_input(latents, timestep) * 0.5
            latents = trial.step(output, timestep, latents, **extra).prev_sample
    except CONFIG_FAULTS as error:
        return f"{type(error).__name__}: {shorten(error)}"
    return None if torch.isfinite(latents).all() else "NaN or infinity"
