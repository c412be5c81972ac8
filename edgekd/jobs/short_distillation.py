"""What students of a search's front are worth after a short distillation.

On this machine finalists are trained one after the other in the run's own distillation folder: the
teacher's trajectories that are drawn for the first are there for the others, and for the student
that is chosen. On a cluster each has a folder of its own, and those of as many steps share
trajectories.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekd.artifacts import TeacherCache
from edgekd.folders import finished
from edgekd.jobs.phases import train_phases, trajectories_key
from edgekd.jobs.plan import Plan, with_student
from edgekd.processes.pool import each
from edgekd.processes.ray_pool import Cluster, Share
from edgekd.progress import Progress, Silent
from edgekd.recipe_distill import PhaseName
from edgekd.search.candidate import Candidate
from edgekd.search.halving import Evaluate

# The validation that a phase is judged by: how far pictures, or predictions, are from the
# teacher's. The same captions and noise for every student.
_JUDGED: dict[PhaseName, tuple[str, ...]] = {
    "few_step": ("validation_picture", "validation_real"),
    "kd": ("validation_output",),
}


@dataclass(frozen=True)
class _Work:
    """One candidate to distil.

    Attributes:
        plan: of its short distillation.
        drawn: folder of the teacher's trajectories; None: one in `out`.
        threads: of torch; 0: as many as it has.
    """

    candidate: Candidate
    plan: Plan
    cache: TeacherCache
    out: Path
    drawn: Path | None = None
    threads: int = 0

    def place(self, name: str, key: str) -> Path:
        """See `edgekd.jobs.places`."""
        return self.drawn if self.drawn and name == "trajectories" else self.out / name

    @property
    def has_trajectories(self) -> bool:
        """Whether the teacher's trajectories are there, or of no use."""
        section = self.plan.recipe.distill
        if "few_step" not in self.plan.phases or section.few_step.method != "trajectory":
            return True
        key = trajectories_key(section, self.cache)
        return self.drawn is not None and finished(self.drawn, key) is not None


def distil_here(plan: Plan, cache: TeacherCache, out: Path, progress: Progress) -> Evaluate:
    """Distils candidates one after the other.

    Args:
        out: the run's distillation folder.
    """

    def evaluate(candidates: Sequence[Candidate], budget: int) -> Iterator[tuple[Candidate, float]]:
        for one in candidates:
            yield one, _nearness(_Work(one, _short(plan, one, budget), cache, out), progress)

    return evaluate


def distil_on(cluster: Cluster, plan: Plan, cache: TeacherCache, out: Path) -> Evaluate:
    """Distils candidates beside each other, with as many threads each as they would have here.

    Args:
        out: folder of the candidates' own folders.
    """
    import torch

    share = Share(plan.recipe.distill.threads or torch.get_num_threads())

    def work(candidate: Candidate, budget: int) -> _Work:
        short = _short(plan, candidate, budget)
        drawn = out / f"trajectories-{trajectories_key(short.recipe.distill, cache)[:16]}"
        own = out / candidate.key()[:16]
        return _Work(candidate, short, cache, own, drawn, share.threads)

    def evaluate(candidates: Sequence[Candidate], budget: int) -> Iterator[tuple[Candidate, float]]:
        left = [work(one, budget) for one in candidates]
        with cluster.pool("distil a finalist", share) as pool:
            while left:
                # Trajectories that are not there yet are drawn by one of those that need them.
                first = {one.drawn: one for one in reversed(left)}
                now, later = list[_Work](), list[_Work]()
                for one in left:
                    begins = first[one.drawn] is one or one.has_trajectories
                    (now if begins else later).append(one)
                left = later
                for one, nearness in each(pool, _nearness_there, now):
                    yield one.candidate, nearness

    return evaluate


def _nearness_there(work: _Work) -> float:
    import torch

    torch.set_num_threads(work.threads)
    return _nearness(work, Silent())


def _nearness(work: _Work, progress: Progress) -> float:
    """How near a student came to its teacher; higher is better."""
    from edgekd.benchmark.curves import read_rows

    if not work.plan.phases:
        return 0.0  # `kd` leaves a whole copy of the teacher as it is
    trained = train_phases(work.plan, work.cache, work.place, progress)
    phase = work.plan.phases[-1]
    rows = read_rows(trained[phase].metrics_path)
    found = [row[name] for row in rows for name in _JUDGED[phase] if name in row]
    return -float(found[-1])


def _short(plan: Plan, candidate: Candidate, steps: int) -> Plan:
    """The plan of a candidate with so few steps of the phases that train the U-Net, and no other
    phase."""
    plan = with_student(plan, candidate, "")
    section = plan.recipe.distill
    short = {"steps": steps, "validate_every": steps, "sample_every": 0}
    few_step = section.few_step.model_copy(update=short)
    phases = tuple(name for name in plan.phases if name in _JUDGED)
    distill = section.model_copy(update={**short, "few_step": few_step, "phases": list(phases)})
    return replace(plan, recipe=plan.recipe.model_copy(update={"distill": distill}), phases=phases)
