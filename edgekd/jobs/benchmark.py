"""`edgekd benchmark`: students against the teacher, and what exporting takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.artifacts import PreparedData
from edgekd.diffusion.resolve import resolve_pipeline
from edgekd.errors import InputError
from edgekd.file_record import finish
from edgekd.files import code_key, hash_value
from edgekd.jobs.matrix import student_case
from edgekd.jobs.phases import train_student
from edgekd.jobs.plan import Plan, make_plan, needed_phases, with_sized_teacher
from edgekd.jobs.prepare import prepare_data
from edgekd.progress import Progress
from edgekd.reading import read_json
from edgekd.recipe import Recipe
from edgekd.resources import find_yaml
from edgekd.run_folder import check_place, open_run
from edgekd.schema import override, validate
from edgekd.target import Target

if TYPE_CHECKING:
    from edgekd.benchmark.cases import Case
    from edgekd.benchmark.suite import ExportSuite


def _variant_plans(plan: Plan) -> dict[str, Plan]:
    """The plan of every variant of the suite, checked before the first trains."""
    from edgekd.student.resolve import resolve_arch

    config = read_json(plan.teacher.path / "unet" / "config.json")
    plans = {}
    for variant in plan.suite.variants:
        values = override(plan.recipe.model_dump(), variant.assignments)
        recipe = validate(Recipe, values, f"variant `{variant.name}`")
        arch = resolve_arch(recipe.student, config)
        phases = needed_phases(recipe.distill, arch, config)
        plans[variant.name] = replace(plan, recipe=recipe, arch=arch, phases=phases)
    return plans


def student_names(paths: list[Path], variants: list[str]) -> list[str]:
    """What the report calls given students: the folder's name, or its path where that is no name.

    Raises:
        InputError: one folder twice.
    """
    places = [path.resolve() for path in paths]
    twice = [path for path, place in zip(paths, places, strict=True) if places.count(place) > 1]
    if twice:
        raise InputError("each --student must be another folder", f"{twice[0]} twice")
    taken = [*variants, *(place.name for place in places)]
    return [
        f"student {place.name if taken.count(place.name) == 1 else path}"
        for path, place in zip(paths, places, strict=True)
    ]


def _trained_cases(
    plan: Plan, variants: dict[str, Plan], progress: Progress
) -> tuple[list[Case], dict[str, Path], PreparedData]:
    """Prepare data and train every variant of the suite."""
    from edgekd.benchmark.cases import TORCH, Case
    from edgekd.benchmark.prompts import check_count

    data, cache = prepare_data(plan.recipe, plan.teacher.path, plan.run, progress)
    check_count(data.validation)
    cases, curves = [], {}
    for variant in plan.suite.variants:
        progress.info(f"[variant {variant.name}] {variant.description}")
        out = plan.run / "variants" / variant.name
        mine = replace(variants[variant.name], teacher=plan.teacher)
        student = train_student(mine, cache, out, progress)
        cases.append(Case(f"student {variant.name}", "student", TORCH, "fp32", student.path))
        for phase, path in student.curves.items():
            curves[f"{variant.name} {phase}"] = path
    return cases, curves, data


def benchmark_run(
    recipe: Recipe,
    target: Target,
    suite_name: str,
    students: list[Path],
    run: Path,
    progress: Progress,
) -> dict[str, Any]:
    """`edgekd benchmark`: the teacher and the suite's own variants in torch, given students in the
    runtime of their folder."""
    from edgekd.benchmark.suite import load_suite

    if not students and not load_suite(find_yaml("benchmarks", suite_name)).variants:
        raise InputError(
            f"suite `{suite_name}` needs a student to measure", "none", "Pass --student DIR."
        )
    students = [resolve_pipeline(str(student), "student") for student in students]
    check_place(run, "distill", [("--student", student) for student in students])
    from edgekd.benchmark.cases import TORCH, Case
    from edgekd.benchmark.run import MatrixRequest, benchmark
    from edgekd.report.schema import read_report

    chosen = validate(
        Recipe, override(recipe.model_dump(), [f"benchmark.suite={suite_name}"]), "recipe"
    )
    plan = make_plan(chosen, target, run)
    variants = _variant_plans(plan)
    names = student_names(students, list(variants))
    given = [student_case(name, path) for name, path in zip(names, students, strict=True)]
    with open_run(run):
        plan = with_sized_teacher(plan)
        cases, curves, data = _trained_cases(plan, variants, progress)
        teacher = Case("teacher torch fp32", "teacher", TORCH, "fp32", plan.teacher.path)
        rows = [teacher, *cases, *given]
        key = hash_value(
            [code_key(), plan.suite.model_dump(), data.key, [[s.name, s.key()] for s in rows]]
        )
        request = MatrixRequest(plan.suite, tuple(rows), data, key, curves)
        report = benchmark(request, run / "report", progress)
    content = read_report(report.json_path)
    return {
        "report": report.html_path,
        "rows": {row.name: row.model_dump(include={"figures"})["figures"] for row in content.rows},
        "metrics": content.metrics.model_dump(),
    }


def export_benchmark_run(
    suite: ExportSuite, targets: list[Target], out: Path, progress: Progress
) -> dict[str, Any]:
    """`edgekd benchmark` with a suite of exports.

    Returns:
        as `edgekd.benchmark.exports.benchmark_exports`, and `report`, the path of its file.

    Raises:
        InputError: a precision that its target does not list, or a runtime that is not installed.
    """
    from edgekd.benchmark.exports import REPORT_FILE, benchmark_exports

    with open_run(out, "benchmark", ("*.json",)):
        result = benchmark_exports(suite, targets, out, progress)
        finish(out, hash_value(suite.model_dump()), only=(REPORT_FILE,), suite=suite.name)
    return {**result, "report": out / REPORT_FILE}
