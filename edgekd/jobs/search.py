"""`edgekd search`, and the same as a stage of `edgekd distill`: the student for a device.

The search knows neither exporters nor training: what it needs of them is handed to it here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekd.artifacts import TeacherCache
from edgekd.devices.connect import DeviceChoice
from edgekd.errors import InputError
from edgekd.file_record import finish
from edgekd.folders import finished
from edgekd.jobs.plan import describe, make_plan, with_sized_teacher
from edgekd.jobs.prepare import prepare_data
from edgekd.jobs.search_fronts import Fronts, find_fronts
from edgekd.jobs.search_plan import SearchPlan, plan_search
from edgekd.processes.ray_pool import Cluster
from edgekd.progress import Progress, format_seconds
from edgekd.recipe import Recipe
from edgekd.run_folder import open_run
from edgekd.schema import Section
from edgekd.search.latency import PredictorReport
from edgekd.search.result import SearchedOn, SearchResult
from edgekd.target import Target

if TYPE_CHECKING:
    from edgekd.jobs.search_cost import CostMeter, PictureCosts
    from edgekd.search.candidate import Scored
    from edgekd.search.choice import Settled, TeacherPoint
    from edgekd.search.proxy import Proxy
    from edgekd.search.result import SearchFacts
    from edgekd.search.study import StudyOutcome

# Of `search.seconds` the measurements may take this share; what is left of them is the study's.
_MEASURE_SHARE, _LEAST_STUDY_SECONDS = 0.75, 5.0
_MOST_POINTS = 24  # of the front that is told


class MeasuredTarget(Section):
    """What `edgekd search --measure-only` prints: how well latencies are told, by precision."""

    predictors: dict[str, PredictorReport]
    searched_on: SearchedOn
    teacher_latency_ms: float
    measurements: Path


@dataclass(frozen=True)
class Helpers:
    """What takes work off this machine.

    Attributes:
        devices: that measure latencies; none: this machine.
        cluster: that prepares the data and distils finalists; None: this machine does.
    """

    devices: DeviceChoice = field(default_factory=DeviceChoice)
    cluster: Cluster | None = None


def search_run(
    recipe: Recipe,
    target: Target,
    run: Path,
    progress: Progress,
    helpers: Helpers | None = None,
) -> SearchResult | Fronts:
    """`edgekd search`: prepare data, and find the student for a target, on each class of devices.

    Raises:
        InputError: whatever does not fit, before anything is computed.
        GateError: no student meets the goal.
    """
    from edgekd.diffusion.health import check_parts

    helpers = helpers or Helpers()
    plan, chosen, cluster = make_plan(recipe, target, run), helpers.devices, helpers.cluster
    with chosen.open(progress) as found:
        classes = chosen.classes(found)
        for own in classes.values():
            plan_search(replace(plan, devices=own))
        check_parts(plan.teacher)
        with open_run(run):
            plan = with_sized_teacher(plan)
            describe(plan)
            if cluster is not None:
                cluster.check(run)
            _, cache = prepare_data(plan.recipe, plan.teacher.path, run, progress, cluster)
            searches = {
                name: plan_search(replace(plan, devices=own)) for name, own in classes.items()
            }

            def find(search: SearchPlan) -> SearchResult:
                return find_student(search, cache, progress, cluster)

            if len(searches) > 1:
                return find_fronts(searches, find, progress)
            return find(*searches.values())


def find_student(
    search: SearchPlan, cache: TeacherCache, progress: Progress, cluster: Cluster | None = None
) -> SearchResult:
    """The student that is asked for; in an open run folder.

    Raises:
        GateError: no student meets the goal.
    """
    from edgekd.jobs.search_cost import open_meter
    from edgekd.jobs.search_score import compare_short, make_proxy, settle_whole, study
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
        teacher = teacher_point(search, meter)
        proxy = make_proxy(search, cache, costs, progress)
        left = search.plan.recipe.search.seconds - (time.monotonic() - started)
        seconds = max(left, _LEAST_STUDY_SECONDS)
        outcome = study(search, search.study_key(cache), costs, proxy, seconds)
        progress.info(
            f"  scored {outcome.candidates} students, "
            f"{outcome.candidates_per_second:.0f} a second; {outcome.trials} trials in the study"
        )
        settled = settle_whole(search, outcome, teacher, meter, costs)
    settled = compare_short(search, _told(settled, proxy), teacher, cache, (progress, cluster))
    result = make_result(_facts(search, costs, proxy, outcome), settled, teacher)
    write_result(folder, result)
    finish(folder, key, only=(FRONT_FOLDER, PLOT_FILE, RESULT_FILE))
    progress.info(f"  chosen: {result.chosen.reason}; {result.searched_on.sentence}")
    progress.info(f"  the search took {format_seconds(time.monotonic() - started)}")
    return result


def measure_run(
    recipe: Recipe,
    target: Target,
    run: Path,
    progress: Progress,
    devices: DeviceChoice | None = None,
) -> MeasuredTarget:
    """`edgekd search --measure-only`: the latency predictor of a target, and how good it is.

    Args:
        devices: of one class.

    Raises:
        InputError: whatever does not fit.
    """
    from edgekd.jobs.search_cost import open_meter

    plan, chosen = make_plan(recipe, target, run), devices or DeviceChoice()
    with chosen.open(progress) as found:
        classes = chosen.classes(found)
        if len(classes) > 1:
            raise InputError(
                "`--measure-only` measures for devices of one class", ", ".join(classes)
            )
        plan = replace(plan, devices=found)
        plan_search(plan, measure_only=True)
        with open_run(run, worth_keeping=("measurements/*.json",)):
            plan = with_sized_teacher(plan)
            describe(plan)
            search = plan_search(plan, measure_only=True)
            with open_meter(search.place) as meter:
                costs = picture_costs(search, meter, progress, share=1.0)
                teacher = teacher_point(search, meter)
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
    from edgekd.jobs.search_cost import budget_of
    from edgekd.jobs.search_shapes import configs_of

    budget = budget_of(search.plan, share, search.place.together)
    seed = search.plan.recipe.search.seed
    costs = meter.fit(search.space, configs_of(search.plan, search.guided), budget, seed, progress)
    for precision, model in costs.models.items():
        for warning in model.report.warnings:
            progress.info(f"  {precision}: {warning}")
    return costs


def teacher_point(search: SearchPlan, meter: CostMeter) -> TeacherPoint:
    """The teacher as it draws today, which the suite says."""
    from edgekd.jobs.search_shapes import configs_of, extra_calls

    generation = search.plan.suite.generation
    full = search.space.candidate(search.space.full())
    drawn = full.model_copy(update={"steps": generation.steps})
    calls = {"extra_calls": extra_calls(search.plan)}
    configs = configs_of(search.plan, search.guided).model_copy(update=calls)
    return meter.teacher(configs, drawn, generation.guided)


def _told(settled: Settled, proxy: Proxy) -> Settled:
    """Some points of the front, with what distillation has to know of them."""
    from edgekd.search.front import thin

    def told(one: Scored) -> Scored:
        known = {"intact": proxy.is_intact(one.candidate)}
        return replace(one, candidate=one.candidate.model_copy(update=known))

    shown = thin(settled.front, _MOST_POINTS, keep=[settled.chosen.point])
    chosen = replace(settled.chosen, point=told(settled.chosen.point))
    return replace(settled, front=tuple(map(told, shown)), chosen=chosen)


def _searched_on(search: SearchPlan) -> SearchedOn:
    from edgekd.measure.environment import cpu

    place = search.place
    processor = place.conditions[0].cpu if place.devices else cpu()
    return SearchedOn(
        runtime=place.runtime,
        precision=tuple(own for _, own in place.runtimes.values()),
        threads=place.threads,
        device=str(processor.get("model", "unknown processor")),
        device_class=place.devices[0].device_class if place.devices else None,
        devices=tuple(one.name for one in place.devices),
        stand_in_for=place.stand_in_for,
    )


def _facts(
    search: SearchPlan, costs: PictureCosts, proxy: Proxy, outcome: StudyOutcome
) -> SearchFacts:
    from edgekd.search.result import SearchFacts

    tables = search.plan.recipe.search.quality_tables
    source = f" (tables of `{tables}`)" if tables else ""
    notes = [f"Quality by steps, decoder and precision was measured on {proxy.measured}{source}."]
    if len(costs.models) > 1:
        names = ", ".join(costs.models)
        notes.append(
            f"Of {names} latencies are predicted worst in {costs.worst}: its errors are given."
        )
    computed = bool(search.place.bits_per_weight)
    if computed:
        bits = (f"{bits:g} ({name})" for name, bits in search.place.bits_per_weight.items())
        notes.append(
            "Latencies and memory of the device itself are not executed here, and sizes are "
            f"computed from the bits of a weight: {', '.join(bits)}."
        )
    return SearchFacts(
        predictor=costs.report,
        searched_on=_searched_on(search),
        candidates_per_second=outcome.candidates_per_second,
        candidates=outcome.candidates,
        trials=outcome.trials,
        study=outcome.study_name,
        storage=outcome.storage,
        sizes="computed" if computed else "measured",
        notes=tuple(notes),
    )
