"""What the apps in TypeScript can draw with; their core refuses the same at load."""

from __future__ import annotations

from edgekd.bundle.kind import Contents
from edgekd.errors import InputError
from edgekd.runtime.scheduler_config import SchedulerConfig

# Those of onnxruntime; the first is the default.
NODE_PRECISIONS: tuple[str, ...] = ("fp32", "int8", "fp16", "int8-dynamic", "int8-static")
NODE_PRECISIONS += ("int8-mixed", "int8-matmul", "int4-matmul", "mixed")
# Visitors download a quarter; WebAssembly is no slower with it.
WEB_PRECISIONS: tuple[str, ...] = ("int8", *(one for one in NODE_PRECISIONS if one != "int8"))
# As `SAMPLERS` of `export_targets/web/core/src/scheduler_config.ts`.
SAMPLERS = (
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "LCMScheduler",
    "TCDScheduler",
)


def check_drawable(contents: Contents) -> None:
    """See that the app's core knows the model's scheduler as it is set.

    Raises:
        InputError: it does not.
    """
    config = contents.exported.scheduler
    if config.name not in SAMPLERS:
        raise InputError(
            f"the scheduler of a model in this app must be one of {', '.join(SAMPLERS)}",
            config.name,
            "Set another one in the pipeline's scheduler_config.json before the export.",
        )
    for setting in _not_neutral(config):
        raise InputError(f"`{setting}` must have its default in this app", config.name)


def _not_neutral(config: SchedulerConfig) -> list[str]:
    """Settings that the app's core does not implement, and that change pictures."""
    solver = config.name == "DPMSolverMultistepScheduler"
    set_to = {
        "use_karras_sigmas": config.use_karras_sigmas,
        "use_exponential_sigmas": config.use_exponential_sigmas,
        "use_beta_sigmas": config.use_beta_sigmas,
        "use_lu_lambdas": config.use_lu_lambdas,
        "algorithm_type": solver and config.algorithm_type != "dpmsolver++",
        "solver_order": solver and config.solver_order > 2,
    }
    return [name for name, changed in set_to.items() if changed]
