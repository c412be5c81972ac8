"""`edgekd benchmark`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekd.cli.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    OutOption,
    SamplerOption,
    SetOption,
    TeacherOption,
    print_json,
    read_recipe,
    run_folder,
)
from edgekd.errors import GateError, InputError


def benchmark(
    suite: Annotated[str, typer.Option("--suite", help="Suite: a YAML file or a shipped name.")],
    config: ConfigOption = "starter",
    target: Annotated[
        str | None,
        typer.Option("--target", help="Default: onnx, or all targets of a suite of exports."),
    ] = None,
    teacher: TeacherOption = None,
    data: DataOption = None,
    student: Annotated[
        list[Path] | None,
        typer.Option("--student", help="Student to compare, diffusers or exported; repeatable."),
    ] = None,
    sampler: SamplerOption = None,
    out: OutOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure students against the teacher and render the matrix report.

    A suite with variants trains its own students first. A suite of exports measures what exporting
    takes, on a pipeline of its own.
    """
    from edgekd.benchmark.search_suites import BaselinesSuite, TransferSuite
    from edgekd.benchmark.suite import ExportSuite, load_any_suite
    from edgekd.progress import console
    from edgekd.resources import find_yaml
    from edgekd.target import load_target

    chosen = load_any_suite(find_yaml("benchmarks", suite))
    if isinstance(chosen, ExportSuite):
        if teacher or data or student or sampler or assignments:
            raise InputError(
                f"suite `{chosen.name}` makes its own pipeline",
                "--teacher, --data, --student, --sampler or --set",
                "Leave them out.",
            )
        names = [target] if target else list(chosen.targets)
        run = out or Path("runs") / chosen.name
        _benchmark_exports(chosen, [load_target(name) for name in names], run, as_json)
        return
    if sampler is not None:
        assignments = [*(assignments or []), f"benchmark.sampler={json.dumps(sampler)}"]
    recipe = read_recipe(config, assignments, teacher, data)
    run = run_folder(out, f"{recipe.name}-{Path(suite).stem}", config)
    if isinstance(chosen, TransferSuite | BaselinesSuite):
        if target or student:
            raise InputError(
                f"suite `{chosen.name}` names its own target and finds its own students",
                "--target or --student",
                "Leave them out.",
            )
        _benchmark_search(chosen, recipe, run, as_json)
        return
    from edgekd.jobs.benchmark import benchmark_run

    result = benchmark_run(
        recipe, load_target(target or "onnx"), suite, student or [], run, console()
    )
    if as_json:
        print_json(result)
    else:
        print(f"report: {result['report']}")


def _benchmark_search(suite: Any, recipe: Any, run: Path, as_json: bool) -> None:
    from edgekd.benchmark.search_suites import BaselinesSuite
    from edgekd.jobs.baseline_figures import baseline_lines
    from edgekd.jobs.search_baselines import baselines_run
    from edgekd.jobs.search_transfer import transfer_lines, transfer_run
    from edgekd.progress import console

    result: Any
    if isinstance(suite, BaselinesSuite):
        result, file = baselines_run(suite, recipe, run, console())
        lines = baseline_lines(result)
    else:
        result, file = transfer_run(suite, recipe, run, console())
        lines = transfer_lines(result)
    if as_json:
        print_json({**result.model_dump(mode="json"), "report": file})
    else:
        print("\n".join([*lines, f"report: {file}"]))


def _benchmark_exports(suite: Any, targets: list[Any], run: Path, as_json: bool) -> None:
    from edgekd.benchmark.exports import table
    from edgekd.jobs.benchmark import export_benchmark_run
    from edgekd.progress import console

    result = export_benchmark_run(suite, targets, run, console())
    if as_json:
        print_json(result)
    else:
        print("\n".join([*table(result), f"report: {result['report']}"]))
    failed = [f"{row['target']} {row['precision']}" for row in result["rows"] if "error" in row]
    if failed:
        raise GateError("every export of the suite must pass its gates", ", ".join(failed))
