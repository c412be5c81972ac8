"""The whole way from a recipe and a target to a student, its export and a report.

This job knows the order of the stages, names every artefact by the content of what it was made
from, and so resumes by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekd.artifacts import ExportedPipeline, PreparedData, StudentCheckpoint
from edgekd.devices.connect import DeviceChoice, check_threads
from edgekd.files import code_key, hash_value
from edgekd.jobs.answers import DistillAnswer
from edgekd.jobs.cards import measure_cards
from edgekd.jobs.gates import check_gates, check_rows, failed_rows
from edgekd.jobs.matrix import matrix
from edgekd.jobs.phases import train_student
from edgekd.jobs.plan import Plan, describe, with_sized_teacher, with_student
from edgekd.jobs.prepare import prepare_data
from edgekd.jobs.prompts import parity_prompts
from edgekd.jobs.ranks import share
from edgekd.jobs.stage_clock import StageClock
from edgekd.progress import Progress
from edgekd.recipe import Recipe
from edgekd.run_folder import open_run
from edgekd.training.cpu import all_cores

if TYPE_CHECKING:
    from edgekd.search.result import SearchResult


def export_roles(
    plan: Plan, student: StudentCheckpoint, data: PreparedData, progress: Progress
) -> dict[str, dict[str, ExportedPipeline]]:
    """Export the student in all precisions, and the teacher in the deployed one to compare with."""
    from edgekd.benchmark.generation import recommended_generation
    from edgekd.export.stage import ExportPlan, export_all

    section = plan.recipe.export
    deployed = section.model_copy(update={"precisions": [plan.target.deploy]})
    prompts = parity_prompts(data, section.parity_prompts)
    made_from = {
        "student": (student.path, student.key, section),
        "teacher": (plan.teacher.path, plan.teacher.key, deployed),
    }
    exports = {}
    for role, (path, source_key, chosen) in made_from.items():
        key = hash_value([code_key(), source_key, plan.target.model_dump()])
        out = plan.run / "export" / role
        asked = ExportPlan(plan.target, chosen, prompts, recommended_generation(path))
        exports[role] = export_all(path, asked, out, key, progress)
    return exports


def report_key(
    plan: Plan,
    data: PreparedData,
    student_key: str,
    exports: dict[str, dict[str, ExportedPipeline]],
    found: SearchResult | None,
) -> str:
    """Content key of the report: suite, data, every row's own key, and the search."""
    keys = {role: {name: one.key for name, one in rows.items()} for role, rows in exports.items()}
    return hash_value(
        [
            [code_key(), plan.suite.model_dump(), data.key, plan.teacher.key, student_key, keys],
            found and found.model_dump(mode="json"),
        ]
    )


def searched(recipe: Recipe) -> list[str]:
    """The stage of a search, where one decides."""
    return ["search"] if recipe.student.searched else []


def with_devices(plan: Plan, names: Sequence[str]) -> Plan:
    """The plan whose benchmark times rows on these devices.

    Raises:
        InputError: a name that none can have.
    """
    from edgekd.benchmark.options import SuiteOptions, with_options

    return replace(plan, suite=with_options(plan.suite, SuiteOptions(devices=names)))


def distill_run(
    plan: Plan,
    progress: Progress,
    devices: DeviceChoice | None = None,
    bundles: tuple[str, ...] = (),
) -> DistillAnswer:
    """Run every stage of the main job.

    Args:
        devices: rows are timed on all of them; a search, on those that are not this machine.
        bundles: kinds of app that the student is put into, see `edgekd.jobs.bundle.check_kinds`;
            none: the report is the last stage.

    Raises:
        InputError: a teacher with a dead part, data that cannot be used, or a tool that an app
            needs and is missing.
        GateError: parity, a loss that is not finite, the quality floor or a budget.
    """
    if devices is not None and devices.names:
        plan = with_devices(plan, devices.names)
    chosen = DeviceChoice(tuple(plan.suite.devices), devices.file if devices else None)
    with chosen.open(progress) as connected:
        return _distil(replace(plan, devices=connected), progress, bundles)


def _distil(plan: Plan, progress: Progress, bundles: tuple[str, ...]) -> DistillAnswer:
    """See `distill_run`; the devices have answered."""
    from edgekd.benchmark.prompts import check_count
    from edgekd.benchmark.run import MatrixRequest, benchmark
    from edgekd.diffusion.health import check_parts
    from edgekd.jobs.bundle import bundle_stage
    from edgekd.jobs.forecast import forecast
    from edgekd.jobs.search import find_student
    from edgekd.jobs.search_plan import plan_search
    from edgekd.report.schema import read_report

    recipe, run, found = plan.recipe, plan.run, None
    last = ["bundle"] if bundles else []
    stages = ["prepare", *searched(recipe), "distill", "export", "benchmark", *last]
    if plan.suite.speed is not None:
        check_threads(plan.devices, plan.suite.speed.threads, "speed.threads")
    clock = StageClock(stages, progress)
    if recipe.student.searched:
        plan_search(plan)
    check_parts(plan.teacher)
    progress.info(f"pictures of {recipe.data.side}x{recipe.data.side} pixels")
    with open_run(run):
        plan = with_sized_teacher(plan)
        describe(plan)
        with clock.stage("prepare"), all_cores():
            data, cache = prepare_data(recipe, plan.teacher.path, run, clock)
        check_count(data.validation)
        clock.use(forecast(plan))
        if recipe.student.searched:
            with clock.stage("search"), all_cores():
                found = find_student(plan_search(plan), cache, clock)
            card = found.on_card(found.chosen.index)
            plan = with_student(plan, found.student.candidate, card)
            describe(plan)
            clock.use(forecast(plan))
        share(plan, cache, run / "distill")
        with clock.stage("distill"):
            student = train_student(plan, cache, run / "distill", clock)
        with clock.stage("export"), all_cores():
            exports = export_roles(plan, student, data, clock)
        with clock.stage("benchmark"), all_cores():
            cases = matrix(plan, student, exports)
            request = MatrixRequest(
                plan.suite,
                cases,
                data,
                key=report_key(plan, data, student.key, exports, found),
                curves=dict(student.curves),
                deploy=(plan.target.runtime, plan.target.deploy),
                search=found,
                devices=plan.devices,
            )
            report = benchmark(request, run / "report", clock)
        content = read_report(report.json_path)
        measure_cards(plan, cases, content)
        headline = content.metrics
        check_rows(failed_rows(content.rows), run / "report")
        check_gates(plan.gates, headline, run / "report")
        made: dict[str, Path] = {}
        if bundles:
            with clock.stage("bundle"):
                made = bundle_stage(run, bundles, clock)
    return DistillAnswer(
        student=student.path,
        export=exports["student"][plan.target.deploy].path,
        report=report.html_path,
        teacher=plan.teacher.path,
        bundles=made,
        metrics=headline,
        busy=[row.name for row in content.rows if row.busy],
    )
