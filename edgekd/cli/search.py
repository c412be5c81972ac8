"""`edgekd search`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from edgekd.cli.options import (
    ConfigOption,
    DataOption,
    DevicesFileOption,
    DevicesOption,
    JsonOption,
    LatencyOption,
    OutOption,
    RayOption,
    SetOption,
    SpeedupOption,
    TargetOption,
    TeacherOption,
    VerifyOption,
    cluster_at,
    device_choice,
    goal_assignments,
    parse_seconds,
    print_json,
    read_recipe,
    run_folder,
)
from edgekd.errors import InputError


def search(
    target: TargetOption = "onnx",
    config: ConfigOption = "starter",
    teacher: TeacherOption = None,
    data: DataOption = None,
    out: OutOption = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="Time for measurements and trials, as `10m`.")
    ] = None,
    latency_ms: LatencyOption = None,
    speedup: SpeedupOption = None,
    measure_only: Annotated[
        bool,
        typer.Option(
            "--measure-only",
            help="Measure and fit latencies, and stop: reads no images, needs no trained teacher.",
        ),
    ] = False,
    devices: DevicesOption = None,
    devices_file: DevicesFileOption = None,
    assignments: SetOption = None,
    verify: VerifyOption = False,
    ray: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the student for a device: latency measured in its runtime, quality by removal.

    Devices of one class share the work; devices of several get a front for each class.
    """
    from edgekd.progress import console
    from edgekd.target import load_target

    asked = list(assignments or [])
    if budget is not None:
        asked.append(f"search.seconds={parse_seconds(budget)}")
    asked += goal_assignments(latency_ms, speedup)
    asked += [f"student.{name}=null" for name in ("preset", "arch", "candidate")]
    recipe = read_recipe(config, asked, teacher, data)
    chosen = load_target(target)
    from edgekd.jobs.search import Helpers, measure_run, search_run

    run = run_folder(out, f"{recipe.name}-{chosen.name}", config, verify)
    choice = device_choice(devices, devices_file)
    result: Any
    if measure_only:
        if ray is not None:
            raise InputError("`--measure-only` needs no cluster", "--ray", "Leave it out.")
        result = measure_run(recipe, chosen, run, console(), choice)
    else:
        with cluster_at(ray) as cluster:
            result = search_run(recipe, chosen, run, console(), Helpers(choice, cluster))
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        from edgekd.jobs.search_lines import lines

        print("\n".join(lines(result, run)))
