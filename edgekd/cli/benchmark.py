"""`edgekd benchmark`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekd.cli.options import (
    ConfigOption,
    DataOption,
    DevicesFileOption,
    DevicesOption,
    JsonOption,
    OutOption,
    RayOption,
    SamplerOption,
    SetOption,
    TeacherOption,
    VerifyOption,
    cluster_at,
    device_choice,
    print_json,
    read_recipe,
    run_folder,
)
from edgekd.errors import GateError, InputError


def benchmark(
    suite: Annotated[
        str, typer.Argument(metavar="SUITE", help="A YAML file, or the name of a shipped one.")
    ] = "starter",
    config: ConfigOption = "starter",
    teacher: TeacherOption = None,
    data: DataOption = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--models",
            metavar="[NAME=]DIR",
            help="Model beside the teacher: a diffusers or exported folder, a .safetensors file, "
            "or a run of `edgekd distill`; repeatable.",
        ),
    ] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option(
            "--targets",
            metavar="T[:P1,P2]",
            help="Export each model for this target, in these precisions or all; repeatable, in "
            "place of the suite's.",
        ),
    ] = None,
    devices: DevicesOption = None,
    devices_file: DevicesFileOption = None,
    skip: Annotated[
        list[str] | None,
        typer.Option("--skip", metavar="METRIC", help="Leave a metric out; repeatable."),
    ] = None,
    inception: Annotated[
        Path | None, typer.Option("--inception", help="torch-fidelity's Inception file: FID.")
    ] = None,
    dinov2: Annotated[
        Path | None, typer.Option("--dinov2", help="Folder of a DINOv2: FD-DINOv2.")
    ] = None,
    clip: Annotated[
        Path | None, typer.Option("--clip", help="Folder of a CLIP: CLIP score, CMMD, retrieval.")
    ] = None,
    sampler: SamplerOption = None,
    out: OutOption = None,
    assignments: SetOption = None,
    verify: VerifyOption = False,
    ray: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure models against the teacher, on each target, and render the matrix report.

    A suite with variants trains its own students first. A suite of exports measures what exporting
    takes, on a pipeline of its own. A row that fails is shown as failed and stops no other; the
    exit code is 3 then. A run that is stopped leaves a report of what was measured; the same
    command goes on.
    """
    from edgekd.benchmark.options import SuiteOptions, exports_with_options
    from edgekd.benchmark.search_suites import BaselinesSuite, TransferSuite
    from edgekd.benchmark.suite import ExportSuite, load_any_suite
    from edgekd.resources import find_yaml

    chosen = load_any_suite(find_yaml("benchmarks", suite))
    options = SuiteOptions(
        models=models or (),
        targets=targets or (),
        devices=device_choice(devices, None).names,
        skip=skip or (),
        inception=inception,
        dinov2=dinov2,
        clip=clip,
    )
    if isinstance(chosen, ExportSuite):
        if teacher or data or sampler or assignments or verify or ray or devices_file:
            raise InputError(
                f"suite `{chosen.name}` makes its own pipeline",
                "--teacher, --data, --sampler, --set, --verify, --ray or --devices-file",
                "Leave them out.",
            )
        asked = exports_with_options(chosen, options)
        _benchmark_exports(asked, out or Path("runs") / chosen.name, as_json)
        return
    if sampler is not None:
        assignments = [*(assignments or []), f"benchmark.sampler={json.dumps(sampler)}"]
    recipe = read_recipe(config, assignments, teacher, data)
    run = run_folder(out, f"{recipe.name}-{Path(suite).stem}", config, verify)
    if isinstance(chosen, TransferSuite | BaselinesSuite):
        if options != SuiteOptions() or ray or devices_file:
            raise InputError(
                f"suite `{chosen.name}` names its own target and finds its own students",
                "--models, --targets, --devices, --devices-file, --skip, --ray or weights of "
                "metrics",
                "Leave them out.",
            )
        _benchmark_search(chosen, recipe, run, as_json)
        return
    from edgekd.jobs.benchmark import SuiteRequest

    with cluster_at(ray) as cluster:
        request = SuiteRequest(recipe, suite, options, run, devices_file, cluster)
        _benchmark_models(request, as_json)


def _benchmark_models(request: Any, as_json: bool) -> None:
    from edgekd.jobs.benchmark import benchmark_run, figure_lines
    from edgekd.jobs.gates import check_rows
    from edgekd.progress import console

    result = benchmark_run(request, console())
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        print("\n".join([*figure_lines(result), f"report: {result.report}"]))
    check_rows(result.failed, result.report)


def _benchmark_search(suite: Any, recipe: Any, run: Path, as_json: bool) -> None:
    from edgekd.benchmark.search_suites import BaselinesSuite
    from edgekd.jobs.baseline_figures import baseline_lines
    from edgekd.jobs.gates import check_rows
    from edgekd.jobs.search_baselines import baselines_run
    from edgekd.jobs.search_transfer import transfer_lines, transfer_run
    from edgekd.progress import console

    failed: Mapping[str, str] = {}
    result: Any
    if isinstance(suite, BaselinesSuite):
        result, file = baselines_run(suite, recipe, run, console())
        lines, failed = baseline_lines(result), result.failed
    else:
        result, file = transfer_run(suite, recipe, run, console())
        lines = transfer_lines(result)
    if as_json:
        print_json({**result.model_dump(mode="json"), "report": file})
    else:
        print("\n".join([*lines, f"report: {file}"]))
    check_rows(failed, file)


def _benchmark_exports(suite: Any, run: Path, as_json: bool) -> None:
    from edgekd.benchmark.exports import REPORT_FILE, FailedExport, table
    from edgekd.jobs.benchmark import export_benchmark_run
    from edgekd.progress import console
    from edgekd.target import load_target

    targets = [load_target(name) for name in suite.targets]
    result = export_benchmark_run(suite, targets, run, console())
    report = run / REPORT_FILE
    if as_json:
        print_json({**result.model_dump(mode="json"), "report": report})
    else:
        print("\n".join([*table(result), f"report: {report}"]))
    failed = [
        f"{row.target} {row.precision}" for row in result.rows if isinstance(row, FailedExport)
    ]
    if failed:
        raise GateError("every export of the suite must pass its gates", ", ".join(failed))
