"""What the Kotlin and Swift pipelines draw with; they have no more than phones need."""

from __future__ import annotations

from edgekd.bundle.kind import Contents
from edgekd.errors import InputError

# In core/…/Samplers.kt and EdgekdCore/Samplers.swift.
SAMPLERS = (
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "LCMScheduler",
)
_SPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")
_HINT = "Few-step students (`edgekd distill`) have one that it draws with."


def check_drawable(contents: Contents) -> None:
    """Whether the app draws with this pipeline.

    Raises:
        InputError: it is of the XL kind, or its sampler is not there or set in another way.
    """
    folder = contents.exported
    if folder.is_sdxl:
        raise InputError("the app must be given a Stable Diffusion 1.x or 2.x pipeline", "SDXL")
    config = folder.scheduler
    if config.name not in SAMPLERS:
        raise InputError(
            f"the scheduler must be one of {', '.join(SAMPLERS)}: the app has no other",
            config.name,
            _HINT,
        )
    spaced = [name for name in _SPACINGS if getattr(config, name)]
    bounds = [name for name in ("sigma_min", "sigma_max") if getattr(config, name) is not None]
    if spaced or bounds:
        raise InputError(
            f"the scheduler's `{(spaced + bounds)[0]}` must be off: the app does not draw with it",
            str(getattr(config, (spaced + bounds)[0])),
            _HINT,
        )
    is_solver = config.name == "DPMSolverMultistepScheduler"
    if is_solver and (config.solver_order != 1 or config.algorithm_type != "dpmsolver++"):
        raise InputError(
            "DPMSolverMultistepScheduler must be DPM-Solver++ of first order in the app",
            f"{config.algorithm_type} of order {config.solver_order}",
            _HINT,
        )
