"""How a few-step student is drawn, by the method that taught it."""

from __future__ import annotations

from typing import Any

from edgekd.distill.sampling import Session
from edgekd.distill.solver import consistency_scheduler, deployed_scheduler
from edgekd.recipe_distill import FewStepSection


def student_session(settings: FewStepSection, scheduler: Any) -> Session:
    """A stock scheduler, steps, and the guidance scale that clients are to give.

    Only a consistency student is told a scale, and draws in one pass at any; the others have
    their teacher's guidance in their weights.

    Args:
        scheduler: the teacher's.
    """
    steps = settings.student_steps
    if settings.method == "trajectory":
        return Session(deployed_scheduler(scheduler), steps, 1.0)
    told = settings.guidance_scale if settings.method == "consistency" else 1.0
    return Session(consistency_scheduler(scheduler), steps, told)
