"""Choosing a sampler by name, on the noise schedule that a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.errors import InputError
from edgekd.runtime.scheduler_settings import OBEYED, SAMPLERS

# As users of diffusers and its front ends call them.
ALIASES = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm++2m": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "lcm": "LCMScheduler",
    "pndm": "PNDMScheduler",
    "tcd": "TCDScheduler",
    "unipc": "UniPCMultistepScheduler",
}


def sampler_class(name: str) -> str:
    """diffusers' class of a sampler, from its own name or an alias, in any case.

    Raises:
        InputError: another name.
    """
    known = {one.lower(): one for one in SAMPLERS} | ALIASES
    if name.lower() not in known:
        raise InputError(f"the sampler must be one of {', '.join((*ALIASES, *SAMPLERS))}", name)
    return known[name.lower()]


def with_sampler(config: Mapping[str, Any], sampler: str) -> dict[str, Any]:
    """A scheduler's configuration, read by another class of diffusers.

    Raises:
        InputError: the class cannot do zero terminal SNR, which the model was trained with.
    """
    if sampler == config.get("_class_name"):
        return dict(config)
    if config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in OBEYED[sampler]:
        raise InputError(
            "the sampler must know zero terminal SNR, with which the model was trained",
            sampler,
            "Take another one, such as ddim.",
        )
    # Two classes clip by default, and a config of another class does not say that they must not.
    return {"clip_sample": False, **config, "_class_name": sampler}
