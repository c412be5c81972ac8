"""`edgekd benchmark`: models against the teacher on every target, and what exporting takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekd.artifacts import TeacherCache
from edgekd.benchmark.cases import TORCH, Case
from edgekd.devices.connect import DeviceChoice, check_threads
from edgekd.errors import InputError
from edgekd.file_record import finish
from edgekd.files import code_key, hash_value
from edgekd.jobs.answers import BenchmarkAnswer
from edgekd.jobs.cards import measure_cards
from edgekd.jobs.gates import failed_rows
from edgekd.jobs.matrix import SuiteMatrix, suite_targets
from edgekd.jobs.models import Model, content_key, given_models
from edgekd.jobs.phases import train_student
from edgekd.jobs.places import shared_places
from edgekd.jobs.plan import Plan, make_plan, needed_phases, with_sized_teacher
from edgekd.jobs.prepare import encode_images, prepare_images
from edgekd.jobs.prompts import parity_prompts
from edgekd.processes.ray_pool import Cluster
from edgekd.progress import Progress
from edgekd.reading import read_json
from edgekd.recipe import Recipe
from edgekd.report import format as fmt
from edgekd.report.matrix import TIMED_BUSY
from edgekd.resources import find_yaml
from edgekd.run_folder import check_place, open_run
from edgekd.schema import override, validate
from edgekd.target import Target, load_target

if TYPE_CHECKING:
    from edgekd.benchmark.exports import ExportCosts
    from edgekd.benchmark.options import SuiteOptions
    from edgekd.benchmark.suite import ExportSuite


def variant_plans(plan: Plan) -> dict[str, Plan]:
    """The plan of every variant of the suite, checked before the first trains."""
    from edgekd.search.candidate import how_found, with_given_student
    from edgekd.student.resolve import resolve_arch

    config = read_json(plan.teacher.path / "unet" / "config.json")
    plans = {}
    for variant in plan.suite.variants:
        values = override(plan.recipe.model_dump(), variant.assignments)
        asked = validate(Recipe, values, f"variant `{variant.name}`")
        found, recipe = how_found(asked), with_given_student(asked)
        arch = resolve_arch(recipe.student, config)
        phases = needed_phases(recipe.distill, arch, config)
        plans[variant.name] = replace(plan, recipe=recipe, arch=arch, phases=phases, found=found)
    return plans


def _trained(
    plan: Plan, variants: dict[str, Plan], cache: TeacherCache | None, progress: Progress
) -> tuple[list[Model], dict[str, Path]]:
    """Every variant of the suite, trained, and the curves of its training."""
    if cache is None:
        return [], {}
    models, curves = [], {}
    place = shared_places(plan.run / "variants" / "_shared")
    for variant in plan.suite.variants:
        progress.info(f"[variant {variant.name}] {variant.description}")
        out = plan.run / "variants" / variant.name
        mine = replace(variants[variant.name], teacher=plan.teacher)
        student = train_student(mine, cache, out, progress, place)
        models.append(Model(variant.name, "student", student.path, student.key))
        for phase, path in student.curves.items():
            curves[f"{variant.name} {phase}"] = path
    return models, curves


@dataclass(frozen=True)
class SuiteRequest:
    """A suite to run.

    Attributes:
        suite: its file, or the name of a shipped one.
        run: folder of students, exports and the report.
        devices_file: None: where it is looked for.
        cluster: that prepares the data and draws the pictures; None: this machine does.
    """

    recipe: Recipe
    suite: str
    options: SuiteOptions
    run: Path
    devices_file: Path | None = None
    cluster: Cluster | None = None


def _asked_plan(request: SuiteRequest) -> tuple[Plan, list[tuple[Target, list[str]]]]:
    """The plan with the suite as the user asked for it, and the targets of its exports.

    Raises:
        InputError: whatever does not fit, before anything is computed or written.
    """
    from edgekd.benchmark.asked import asked_metrics, measurable
    from edgekd.benchmark.options import with_options
    from edgekd.benchmark.suite import load_suite
    from edgekd.metrics.registry import load_metrics

    suite = with_options(load_suite(find_yaml("benchmarks", request.suite)), request.options)
    if not suite.models and not suite.variants:
        raise InputError(
            f"suite `{request.suite}` needs a model to measure beside the teacher",
            "none",
            "Pass --models DIR.",
        )
    measurable(asked_metrics(suite, load_metrics()), suite.weights)
    models = [("--models", path) for path in suite.models.values()]
    check_place(request.run, "distill", models)
    targets = suite_targets(suite)
    named = [f"benchmark.suite={json.dumps(request.suite)}"]
    recipe = validate(Recipe, override(request.recipe.model_dump(), named), "recipe")
    plan = make_plan(recipe, targets[0][0] if targets else load_target("onnx"), request.run)
    # As the recipe's sampler has changed it.
    return replace(plan, suite=with_options(plan.suite, request.options)), targets


def check_devices(chosen: DeviceChoice, rows: Sequence[Case]) -> None:
    """Other devices have something to measure.

    Raises:
        InputError: all rows are torch's, which run here alone.
    """
    if chosen.others and all(case.runtime == TORCH for case in rows):
        raise InputError(
            "`--devices` must have exported rows to measure",
            "rows of torch alone",
            "Pass --targets, or exported folders as --models.",
        )


def benchmark_run(request: SuiteRequest, progress: Progress) -> BenchmarkAnswer:
    """`edgekd benchmark`: the teacher, the suite's own variants and the given models, in torch and
    in each precision of each target.

    Raises:
        InputError: whatever does not fit, before anything is computed.
    """
    from edgekd.benchmark.prompts import check_count
    from edgekd.benchmark.run import MatrixRequest, benchmark
    from edgekd.report.schema import read_report

    plan, targets = _asked_plan(request)
    variants = variant_plans(plan)
    folders = given_models(plan.suite.models)
    cluster = request.cluster
    chosen = DeviceChoice(tuple(plan.suite.devices), request.devices_file)
    with chosen.open(progress) as devices, open_run(request.run):
        if plan.suite.speed is not None:
            check_threads(devices, plan.suite.speed.threads, "speed.threads")
        if cluster is not None:
            cluster.check(request.run)
        plan = with_sized_teacher(plan)
        data = prepare_images(plan.recipe, plan.run, progress, cluster)
        check_count(data.validation)
        cache = None
        if plan.suite.variants:
            cache = encode_images(data, plan.teacher.path, plan.run, progress, cluster)
        trained, curves = _trained(plan, variants, cache, progress)
        models = [
            Model("teacher", "teacher", plan.teacher.path, plan.teacher.key),
            *trained,
            *(Model(name, "student", path, content_key(path)) for name, path in folders.items()),
        ]
        section = plan.recipe.export
        prompts = parity_prompts(data, section.parity_prompts)
        matrix = SuiteMatrix(plan.suite, targets, section, prompts, plan.run, progress)
        rows = matrix.cases(models)
        check_devices(chosen, rows)
        made = [[case.name, case.failed or case.key()] for case in rows]
        key = hash_value([code_key(), plan.suite.model_dump(mode="json"), data.key, made])
        asked = MatrixRequest(
            plan.suite,
            rows,
            data,
            key,
            curves,
            matrix.deployed,
            devices=devices,
            cluster=cluster,
        )
        report = benchmark(asked, plan.run / "report", progress)
        content = read_report(report.json_path)
        measure_cards(plan, rows, content)
    return BenchmarkAnswer(
        report=report.html_path,
        rows={row.name: row.figures for row in content.rows},
        metrics=content.metrics,
        failed=failed_rows(content.rows),
        busy=[row.name for row in content.rows if row.busy],
    )


def figure_lines(answer: BenchmarkAnswer) -> list[str]:
    """`student on pi5: 45.4 ms p50, 190 MB` for each row that was timed or weighed."""
    lines = []
    for name, figures in answer.rows.items():
        time, memory = figures.get("latency_ms"), figures.get("peak_bytes")
        mark = f", {TIMED_BUSY}" if name in answer.busy else ""
        parts = [f"{fmt.milliseconds(time.value)} p50{mark}"] if time else []
        parts += [f"{fmt.size(memory.value)} peak memory"] if memory else []
        if parts:
            lines.append(f"{name}: {', '.join(parts)}")
    return lines


def export_benchmark_run(
    suite: ExportSuite, targets: list[Target], out: Path, progress: Progress
) -> ExportCosts:
    """`edgekd benchmark` with a suite of exports.

    Raises:
        InputError: a precision that its target does not list, or a runtime that is not installed.
    """
    from edgekd.benchmark.exports import REPORT_FILE, benchmark_exports

    with open_run(out, "benchmark", ("*.json",)):
        result = benchmark_exports(suite, targets, out, progress)
        finish(out, hash_value(suite.model_dump()), only=(REPORT_FILE,), suite=suite.name)
    return result
