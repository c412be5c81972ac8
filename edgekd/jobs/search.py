"""`edgekd search`, and the same as a stage of `edgekd distill`: the student for a device.

The search knows neither exporters nor training: what it needs of them is handed to it here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.artifacts import TeacherCache
from edgekd.errors import InputError
from edgekd.file_record import finish
from edgekd.files import code_key, hash_value
from edgekd.folders import finished
from edgekd.jobs.plan import Plan, deployed_as, describe, make_plan, with_sized_teacher
from edgekd.jobs.prepare import prepare_data
from edgekd.progress import Progress, format_seconds
from edgekd.reading import read_json
from edgekd.recipe import Recipe
from edgekd.run_folder import open_run
from edgekd.schema import Section, validate
from edgekd.search.latency import PredictorReport
from edgekd.search.result import SearchedOn, SearchResult
from edgekd.target import Target

if TYPE_CHECKING:
    from edgekd.jobs.search_cost import CostMeter, PictureCosts, Place
    from edgekd.search.candidate import Candidate
    from edgekd.search.choice import Goal, Settled, TeacherPoint
    from edgekd.search.proxy import Proxy
    from edgekd.search.result import SearchFacts
    from edgekd.search.scoring import Setting
    from edgekd.search.space import SearchSpace
    from edgekd.search.study import StudyOutcome

SEARCH = "search"
_MOST_POINTS = 24  # of the front that is told
_SHORT_ROUNDS = 2  # of the short distillation: all finalists, then the better half for longer
# Bounds of a target's budget that a candidate is held to before it is scored.
_COSTS = ("latency_ms", "size_bytes", "peak_bytes")
# Of `search.seconds` the measurements may take this share; what is left of them is the study's.
_MEASURE_SHARE, _LEAST_STUDY_SECONDS = 0.75, 5.0


class MeasuredTarget(Section):
    """What `edgekd search --measure-only` prints: how well latencies are told, by precision."""

    predictors: dict[str, PredictorReport]
    searched_on: SearchedOn
    teacher_latency_ms: float
    measurements: Path


@dataclass(frozen=True)
class SearchPlan:
    """A search that has passed every check that needs no computation.

    Attributes:
        guided: each step of a student calls its U-Net with and without the text, as its
            teacher's; few-step students do not.
        folder: of the result.
    """

    plan: Plan
    space: SearchSpace
    goal: Goal
    place: Place
    guided: bool
    folder: Path

    def key(self, cache: TeacherCache) -> str:
        """Hash of all that the result follows from but the machine's noise."""
        plan, section = self.plan, self.plan.recipe.search
        return hash_value(
            [
                [code_key(), plan.teacher.key, cache.key, plan.target.model_dump()],
                section.model_dump(exclude={"storage"}),
                [plan.suite.generation.model_dump(), plan.recipe.distill.model_dump()],
                [one.model_dump() for one in self.place.conditions],
            ]
        )


def plan_search(plan: Plan) -> SearchPlan:
    """Check what a recipe asks of a search against its teacher and target.

    Raises:
        InputError: a goal, share, step or precision that cannot be.
    """
    from edgekd.jobs.search_cost import place_of
    from edgekd.search.choice import Goal
    from edgekd.search.dimensions import SpaceSettings
    from edgekd.search.space import SearchSpace

    section, target = plan.recipe.search, plan.target
    wanted = section.model_dump(include=set(Goal.model_fields))
    goal = validate(Goal, wanted, "`search`")
    if section.short_steps and goal.latency_ms is None and goal.speedup is None:
        raise InputError(
            "`search.short_steps` must come with a goal of latency, to find the best within it",
            "neither `search.latency_ms` nor `search.speedup`",
        )
    precisions = tuple(section.precisions) or (target.deploy,)
    for precision in precisions:
        deployed_as(target, precision)
    phases = plan.recipe.distill.phases
    few, narrow = "few_step" in phases, "decoder" in phases and not plan.teacher.tiny_vae
    settings = SpaceSettings(
        unet=read_json(plan.teacher.path / "unet" / "config.json"),
        vae=read_json(plan.teacher.path / "vae" / "config.json"),
        steps=tuple(section.steps) if few else (plan.suite.generation.steps,),
        precisions=precisions,
        width_shares=tuple(section.widths),
        decoder_widths=tuple(section.decoder_widths) if narrow else (1.0,),
    )
    place = place_of(plan, precisions, plan.run / SEARCH / "measurements")
    guided = not few and plan.suite.generation.guided
    return SearchPlan(plan, SearchSpace(settings), goal, place, guided, plan.run / SEARCH)


def search_run(recipe: Recipe, target: Target, run: Path, progress: Progress) -> SearchResult:
    """`edgekd search`: prepare data, and find the student for a target.

    Raises:
        InputError: whatever does not fit, before anything is computed.
        GateError: no student meets the goal.
    """
    from edgekd.diffusion.health import check_parts

    plan = make_plan(recipe, target, run)
    plan_search(plan)
    check_parts(plan.teacher)
    with open_run(run):
        plan = with_sized_teacher(plan)
        describe(plan)
        _, cache = prepare_data(plan.recipe, plan.teacher.path, run, progress)
        return find_student(plan_search(plan), cache, progress)


def find_student(search: SearchPlan, cache: TeacherCache, progress: Progress) -> SearchResult:
    """The student that is asked for; in an open run folder.

    Raises:
        GateError: no student meets the goal.
    """
    from edgekd.jobs.search_cost import open_meter
    from edgekd.search.front import thin
    from edgekd.search.result import (
        FRONT_FOLDER,
        PLOT_FILE,
        RESULT_FILE,
        make_result,
        read_result,
        write_result,
    )

    key, folder = search.key(cache), search.folder
    if finished(folder, key, progress.info) is not None:
        return read_result(folder)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with open_meter(search.place) as meter:
        costs = picture_costs(search, meter, progress)
        teacher = meter.teacher(*_teacher(search))
        proxy = _proxy(search, cache, progress)
        left = search.plan.recipe.search.seconds - (time.monotonic() - started)
        outcome = _study(search, key, costs, proxy, max(left, _LEAST_STUDY_SECONDS))
        progress.info(
            f"  scored {outcome.candidates} students, "
            f"{outcome.candidates_per_second:.0f} a second; {outcome.trials} trials in the study"
        )
        settled = _settle(search, outcome, teacher, meter, costs)
    settled = _rehearsed(search, settled, teacher, cache, progress)
    shown = thin(settled.front, _MOST_POINTS, keep=[settled.chosen.point])
    settled = replace(settled, front=shown)
    result = make_result(_facts(search, costs, proxy, outcome), settled, teacher)
    write_result(folder, result)
    finish(folder, key, only=(FRONT_FOLDER, PLOT_FILE, RESULT_FILE))
    progress.info(f"  chosen: {result.chosen.reason}; {result.searched_on.sentence}")
    progress.info(f"  the search took {format_seconds(time.monotonic() - started)}")
    return result


def measure_run(recipe: Recipe, target: Target, run: Path, progress: Progress) -> MeasuredTarget:
    """`edgekd search --measure-only`: the latency predictor of a target, and how good it is.

    Raises:
        InputError: whatever does not fit.
    """
    from edgekd.jobs.search_cost import open_meter

    plan = make_plan(recipe, target, run)
    plan_search(plan)
    with open_run(run, worth_keeping=("measurements/*.json",)):
        plan = with_sized_teacher(plan)
        describe(plan)
        search = plan_search(plan)
        with open_meter(search.place) as meter:
            costs = picture_costs(search, meter, progress, share=1.0)
            teacher = meter.teacher(*_teacher(search))
    return MeasuredTarget(
        predictors={name: model.report for name, model in costs.models.items()},
        searched_on=_searched_on(search),
        teacher_latency_ms=teacher.latency_ms,
        measurements=search.place.store,
    )


def picture_costs(
    search: SearchPlan, meter: CostMeter, progress: Progress, share: float = _MEASURE_SHARE
) -> PictureCosts:
    """What pictures of the space's students cost, in a share of the search's seconds."""
    from edgekd.jobs.search_cost import budget_of, configs_of

    budget = budget_of(search.plan, share)
    seed = search.plan.recipe.search.seed
    costs = meter.fit(search.space, configs_of(search.plan, search.guided), budget, seed, progress)
    for precision, model in costs.models.items():
        for warning in model.report.warnings:
            progress.info(f"  {precision}: {warning}")
    return costs


def _teacher(search: SearchPlan) -> tuple[Any, Candidate, bool]:
    """Arguments of `CostMeter.teacher`: how the teacher draws, which the suite says."""
    from edgekd.jobs.search_cost import configs_of

    generation = search.plan.suite.generation
    full = search.space.candidate(search.space.full())
    drawn = full.model_copy(update={"steps": generation.steps})
    return configs_of(search.plan, search.guided), drawn, generation.guided


def _proxy(search: SearchPlan, cache: TeacherCache, progress: Progress) -> Proxy:
    """Damage measured on the teacher; steps, decoders and precisions by tables."""
    from edgekd.data.cache import CachedLatents
    from edgekd.diffusion.load import load_teacher
    from edgekd.search.agreement import CalibrationSettings, make_calibration
    from edgekd.search.effects import DamageMeter, EffectSettings, measure_effects
    from edgekd.search.proxy import Proxy
    from edgekd.search.tables import read_tables

    section = search.plan.recipe.search
    teacher = load_teacher(search.plan.teacher.path, only=("unet",))
    settings = CalibrationSettings(samples=section.calibration_samples, seed=section.seed)
    latents = CachedLatents.load(cache, "train")
    calibration = make_calibration(teacher, latents, settings, cache.key)
    meter = DamageMeter(teacher.unet, calibration, search.plan.run / SEARCH)
    effects = measure_effects(meter, search.space, EffectSettings(), progress)
    tables = read_tables().offering(tuple(search.place.runtimes))
    return Proxy(search.space, effects, tables)


def _study(
    search: SearchPlan, key: str, costs: PictureCosts, proxy: Proxy, seconds: float
) -> StudyOutcome:
    from edgekd.search.candidate import Scored
    from edgekd.search.scoring import Scoring
    from edgekd.search.storage import sqlite_url
    from edgekd.search.study import StudyBudget, run_study
    from edgekd.search.trials import StudyPlan

    plan, section = search.plan, search.plan.recipe.search

    def score(candidate: Candidate) -> Scored:
        return Scored(candidate, costs.predict(candidate), proxy.quality(candidate))

    bounds = {name: plan.target.budgets.get(name) for name in _COSTS}
    limits = {name: bound for name, bound in bounds.items() if bound is not None}

    def allowed(candidate: Candidate) -> bool:
        cost = costs.predict(candidate)
        return all(getattr(cost, name) <= bound for name, bound in limits.items())

    def fit(setting: Setting) -> Setting:
        return search.space.fit(setting, allowed)

    study = StudyPlan(
        name=f"{plan.recipe.name}-{plan.target.name}",
        key=key,
        dimensions=search.space.dimensions,
        known=list(_known(search)),
        storage=section.storage or sqlite_url(search.folder / "study.db"),
        sampler=section.sampler,
        seed=section.seed,
    )
    scoring = Scoring(search.space.candidate, score, fit if limits else None)
    return run_study(study, scoring, StudyBudget(section.candidates, section.trials, seconds))


def _known(search: SearchPlan) -> Iterator[Setting]:
    """The teacher's architecture in all numbers of steps, and the presets that fit it."""
    from edgekd.student.resolve import PRESETS, preset

    space, config = search.space, read_json(search.plan.teacher.path / "unet" / "config.json")
    full = space.candidate(space.full())
    for name in PRESETS:
        try:
            arch = preset(name, config)
        except InputError:
            continue  # it is for teachers of other shapes
        for steps in space.dimensions["steps"]:
            yield space.choices(full.model_copy(update={"arch": arch, "steps": steps}))


def _settle(
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

    count = search.plan.recipe.search.finalists
    return settle(outcome.points, search.goal, teacher, measure, count)


def _rehearsed(
    search: SearchPlan,
    settled: Settled,
    teacher: TeacherPoint,
    cache: TeacherCache,
    progress: Progress,
) -> Settled:
    """The best of the measured finalists after a short distillation, if the recipe asks for one."""
    from edgekd.jobs.short_distillation import short_distillation
    from edgekd.search.describe import describe as in_words
    from edgekd.search.figures import KeptFigures
    from edgekd.search.halving import HalvingSettings, halve

    steps, goal = search.plan.recipe.search.short_steps, search.goal
    if not steps:
        return settled
    limit = goal.latency_ms or teacher.latency_ms / (goal.speedup or 1.0)
    rivals = {
        one.candidate.key(): one
        for one in settled.front
        if one.measured and one.cost.latency_ms <= limit
    }
    kept = KeptFigures(search.folder / "short.json", search.key(cache))
    evaluate = short_distillation(search.plan, cache, search.plan.run / "distill", progress)
    settings = HalvingSettings(rungs=_SHORT_ROUNDS, budget=steps)
    ranked = halve([one.candidate for one in rivals.values()], evaluate, settings, kept, progress)
    best = rivals[ranked[0].candidate.key()]
    reason = (
        f"of {len(rivals)} within {limit:.3g} ms the nearest to its teacher after {steps} steps "
        f"of distillation: {in_words(best.candidate, teacher.unet_config)}"
    )
    return replace(settled, chosen=replace(settled.chosen, point=best, reason=reason))


def _searched_on(search: SearchPlan) -> SearchedOn:
    from edgekd.measure.environment import cpu

    place = search.place
    return SearchedOn(
        runtime=place.runtime,
        precision=tuple(own for _, own in place.runtimes.values()),
        threads=place.threads,
        device=str(cpu()["model"]),
        stand_in_for=place.stand_in_for,
    )


def _facts(
    search: SearchPlan, costs: PictureCosts, proxy: Proxy, outcome: StudyOutcome
) -> SearchFacts:
    from edgekd.search.result import SearchFacts

    notes = [f"Quality by steps, decoder and precision was measured on {proxy.measured}."]
    if search.place.stand_in_for is not None:
        notes.append("Latencies of the device itself are not executed here.")
    return SearchFacts(
        predictor=next(iter(costs.models.values())).report,
        searched_on=_searched_on(search),
        candidates_per_second=outcome.candidates_per_second,
        candidates=outcome.candidates,
        trials=outcome.trials,
        study=outcome.study_name,
        storage=outcome.storage,
        notes=tuple(notes),
    )
