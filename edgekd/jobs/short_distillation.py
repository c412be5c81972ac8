"""What a student of a search's front is worth after a short distillation.

Finalists are trained in the run's own distillation folder: the teacher's trajectories that are
drawn for the first are there for the others, and for the student that is chosen.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgekd.artifacts import TeacherCache
from edgekd.jobs.phases import train_phases
from edgekd.jobs.plan import Plan, with_student
from edgekd.progress import Progress
from edgekd.recipe_distill import PhaseName
from edgekd.search.candidate import Candidate
from edgekd.search.halving import Evaluate

# The validation that a phase is judged by: how far pictures, or predictions, are from the
# teacher's. The same captions and noise for every student.
_JUDGED: dict[PhaseName, tuple[str, ...]] = {
    "few_step": ("validation_picture", "validation_real"),
    "kd": ("validation_output",),
}


def short_distillation(plan: Plan, cache: TeacherCache, out: Path, progress: Progress) -> Evaluate:
    """A function of a candidate and of the steps of each phase: how near it came to its teacher,
    higher is better.

    Args:
        out: the run's distillation folder.
    """

    def evaluate(candidate: Candidate, budget: int) -> float:
        from edgekd.benchmark.curves import read_rows

        short = _shortened(with_student(plan, candidate, ""), budget)
        trained = train_phases(short, cache, out, progress)
        phase = short.phases[-1]
        rows = read_rows(trained[phase].metrics_path)
        found = [row[name] for row in rows for name in _JUDGED[phase] if name in row]
        return -float(found[-1])

    return evaluate


def _shortened(plan: Plan, steps: int) -> Plan:
    """The plan with so few steps of the phases that train the U-Net, and no other phase."""
    section = plan.recipe.distill
    short = {"steps": steps, "validate_every": steps, "sample_every": 0}
    few_step = section.few_step.model_copy(update=short)
    phases = tuple(name for name in plan.phases if name in _JUDGED)
    distill = section.model_copy(update={**short, "few_step": few_step, "phases": list(phases)})
    return replace(plan, recipe=plan.recipe.model_copy(update={"distill": distill}), phases=phases)
