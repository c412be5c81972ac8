"""How a search's candidates are scored, studied, and compared by distillation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgekd.artifacts import TeacherCache
from edgekd.errors import InputError
from edgekd.jobs.search_plan import SEARCH, SearchPlan
from edgekd.processes.ray_pool import Cluster
from edgekd.progress import Progress
from edgekd.reading import read_json
from edgekd.target import Target

if TYPE_CHECKING:
    from edgekd.jobs.search_cost import CostMeter, PictureCosts
    from edgekd.search.candidate import Candidate
    from edgekd.search.choice import Settled, TeacherPoint
    from edgekd.search.proxy import Proxy
    from edgekd.search.scoring import Setting
    from edgekd.search.study import StudyOutcome
    from edgekd.student.arch import StudentArch

# Bounds of a target's budget that a candidate is held to before it is scored.
_COSTS = ("latency_ms", "size_bytes", "peak_bytes")
_SHORT_ROUNDS = 2  # of the short distillation: all finalists, then the better half for longer


def make_proxy(
    search: SearchPlan, cache: TeacherCache, costs: PictureCosts, progress: Progress
) -> Proxy:
    """Damage measured on the teacher; steps, decoders and precisions by tables."""
    from edgekd.data.cache import CachedLatents
    from edgekd.diffusion.load import load_teacher
    from edgekd.search.agreement import CalibrationSettings, make_calibration
    from edgekd.search.effects import DamageMeter, EffectSettings, measure_effects
    from edgekd.search.proxy import Proxy

    section = search.plan.recipe.search
    teacher = load_teacher(search.plan.teacher.path, only=("unet",))
    settings = CalibrationSettings(samples=section.calibration_samples, seed=section.seed)
    latents = CachedLatents.load(cache, "train")
    calibration = make_calibration(teacher, latents, settings, cache.key)
    meter = DamageMeter(teacher.unet, calibration, search.plan.run / SEARCH)
    effects = measure_effects(meter, search.space, EffectSettings(), progress)
    whole = costs.unet_bytes(search.space.candidate(search.space.full()).arch)

    def share(arch: StudentArch) -> float:
        # Files are told from parameters by a straight line, which may fall below none.
        return min(max(costs.unet_bytes(arch) / whole, 0.01), 1.0)

    return Proxy(search.space, effects, search.tables, share)


def _budget_limits(target: Target) -> dict[str, float]:
    """The target's budgets that a candidate is held to, by fields of its cost."""
    bounds = {name: target.budgets.get(name) for name in _COSTS}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def study(
    search: SearchPlan, key: str, costs: PictureCosts, proxy: Proxy, seconds: float
) -> StudyOutcome:
    """Score students, and let Optuna ask for more; the target's own bounds are kept to.

    Trials of earlier calls and of other hosts were told from other measurements: in the end all
    are scored by these.

    Raises:
        GateError: not even the cheapest student keeps to the bounds.
    """
    from edgekd.search.candidate import Scored
    from edgekd.search.scoring import Scoring
    from edgekd.search.storage import sqlite_url
    from edgekd.search.study import StudyBudget, run_study
    from edgekd.search.trials import StudyPlan

    plan, section = search.plan, search.plan.recipe.search

    def score(candidate: Candidate) -> Scored:
        return Scored(candidate, costs.predict(candidate), proxy.quality(candidate))

    limits = _budget_limits(plan.target)

    def allowed(candidate: Candidate) -> bool:
        cost = costs.predict(candidate)
        return all(getattr(cost, name) <= bound for name, bound in limits.items())

    def fit(setting: Setting) -> Setting:
        return search.space.fit(setting, allowed)

    planned = StudyPlan(
        name=f"{plan.recipe.name}-{plan.target.name}",
        key=key,
        dimensions=search.space.dimensions,
        known=list(_known(search)),
        storage=section.storage or sqlite_url(search.folder / "study.db"),
        sampler=section.sampler,
        seed=section.seed,
        told_from=costs.key,
    )
    scoring = Scoring(search.space.candidate, score, fit if limits else None)
    budget = StudyBudget(section.candidates, section.trials, seconds)
    outcome = run_study(planned, scoring, budget)
    known = [one.candidate for one in outcome.points if allowed(one.candidate)]
    known = known or [search.space.candidate(fit(search.space.cheapest()))]
    return replace(outcome, points=tuple(map(score, known)))


def _known(search: SearchPlan) -> Iterator[Setting]:
    """The cheapest student in each precision, the teacher's architecture in all numbers of steps,
    and the presets that fit it and the space."""
    from edgekd.student.resolve import PRESETS, preset

    space, config = search.space, read_json(search.plan.teacher.path / "unet" / "config.json")
    for precision in space.dimensions["precision"]:
        yield {**space.cheapest(), "precision": precision}
    full = space.candidate(space.full())
    for name in PRESETS:
        for steps in space.dimensions["steps"]:
            try:
                arch = preset(name, config)
                known = space.choices(full.model_copy(update={"arch": arch, "steps": steps}))
            except InputError:
                break  # it is for teachers of other shapes, or no choice of this space
            yield known


def settle_whole(
    search: SearchPlan,
    outcome: StudyOutcome,
    teacher: TeacherPoint,
    meter: CostMeter,
    costs: PictureCosts,
) -> Settled:
    """Finalists are measured whole before one is chosen."""
    from edgekd.search.choice import settle

    def measure(candidates: Any) -> Any:
        return [meter.whole(costs, candidate) for candidate in candidates]

    goal, bounds = search.plan.recipe.search, _budget_limits(search.plan.target)
    return settle(outcome.points, goal, teacher, measure, goal.finalists, bounds)


def compare_short(
    search: SearchPlan,
    settled: Settled,
    teacher: TeacherPoint,
    cache: TeacherCache,
    how: tuple[Progress, Cluster | None],
) -> Settled:
    """The best of the measured finalists after a short distillation, if the recipe asks for one.

    Args:
        how: the cluster, if there is one, distils them beside each other.
    """
    from edgekd.jobs.short_distillation import distil_here, distil_on
    from edgekd.search.choice import fitting, limit_text, within_limit
    from edgekd.search.describe import describe as in_words
    from edgekd.search.figures import KeptFigures
    from edgekd.search.halving import HalvingSettings, halve

    steps, goal = search.plan.recipe.search.short_steps, search.plan.recipe.search
    if not steps:
        return settled
    measured = fitting([one for one in settled.front if one.measured], goal)
    rivals = {one.candidate.key(): one for one in within_limit(measured, goal, teacher)}
    kept = KeptFigures(search.folder / "short.json", search.key(cache))
    progress, cluster = how
    if cluster is None:
        evaluate = distil_here(search.plan, cache, search.plan.run / "distill", progress)
    else:
        evaluate = distil_on(cluster, search.plan, cache, search.folder / "short")
    settings = HalvingSettings(rungs=_SHORT_ROUNDS, budget=steps)
    ranked = halve([one.candidate for one in rivals.values()], evaluate, settings, kept, progress)
    best = rivals[ranked[0].candidate.key()]
    reason = (
        f"of {len(rivals)} within {limit_text(goal, teacher)} the nearest to its teacher after "
        f"{steps} steps of distillation: {in_words(best.candidate, teacher.unet_config)}"
    )
    return replace(settled, chosen=replace(settled.chosen, point=best, reason=reason))
