"""How a few-step student is drawn, by the method that taught it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekd.distill.solver import (
    consistency_scheduler,
    deployed_scheduler,
    first_order_scheduler,
)
from edgekd.recipe_distill import DistillSection
from edgekd.student.build import DrawingPlan

_DDIM, _DPM_SOLVER = "DDIMScheduler", "DPMSolverMultistepScheduler"


def student_drawing(
    section: DistillSection, scheduler: Any, known: Sequence[str] = ()
) -> DrawingPlan:
    """A stock scheduler, steps, and the guidance scale that clients are to give.

    A consistency student is told a scale, and draws in one pass at any; the others have their
    teacher's guidance in their weights, unless the recipe keeps it.

    Args:
        scheduler: the teacher's.
        known: classes of diffusers that the clients of the target have; (): all.
    """
    settings = section.few_step
    steps = settings.student_steps
    if settings.method == "trajectory":
        make = deployed_scheduler
        if known and _DDIM not in known and _DPM_SOLVER in known:
            make = first_order_scheduler
        return DrawingPlan(make(scheduler), steps, section.kept_guidance)
    told = settings.guidance_scale if settings.method == "consistency" else 1.0
    return DrawingPlan(consistency_scheduler(scheduler), steps, told)
