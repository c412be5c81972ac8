"""`edgekd distill`."""

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
    SetOption,
    SpeedupOption,
    StudentOption,
    TargetOption,
    TeacherOption,
    VerifyOption,
    device_choice,
    goal_assignments,
    print_json,
    read_recipe,
    run_folder,
    student_assignments,
)
from edgekd.errors import GateError, InputError


def distill(
    target: TargetOption = "onnx",
    config: ConfigOption = "starter",
    teacher: TeacherOption = None,
    data: DataOption = None,
    student: StudentOption = None,
    latency_ms: LatencyOption = None,
    speedup: SpeedupOption = None,
    out: OutOption = None,
    devices: DevicesOption = None,
    devices_file: DevicesFileOption = None,
    assignments: SetOption = None,
    verify: VerifyOption = False,
    bundles: Annotated[
        list[str] | None,
        typer.Option(
            "--bundle",
            metavar="KIND",
            help="Last, put the student into an app, as `edgekd bundle --for`; repeatable.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Build everything, do one step of each phase, and plan. Writes nothing.",
        ),
    ] = False,
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="GPU that a dry run plans for, as `a100-80gb`.")
    ] = None,
    gpu_price: Annotated[
        float | None, typer.Option("--gpu-price", help="Its price in dollars an hour.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The whole way: prepare, distil, export, check parity, benchmark, report, bundle."""
    from edgekd.jobs.bundle import check_kinds
    from edgekd.progress import console
    from edgekd.target import load_target

    goal = goal_assignments(latency_ms, speedup)
    asked = [*student_assignments(student), *goal, *(assignments or [])]
    recipe = read_recipe(config, asked, teacher, data)
    if goal and not recipe.student.searched:
        raise InputError(
            "`--latency-ms` and `--speedup` are goals of a search", "a student that is named"
        )
    chosen = load_target(target)
    check_kinds(bundles or ())
    if dry_run:
        if verify:
            raise InputError("`--dry-run` must come without `--verify`: it has no results", "both")
        _dry_run(recipe, gpu, gpu_price, as_json)
        return
    if gpu is not None or gpu_price is not None:
        option = "--gpu" if gpu is not None else "--gpu-price"
        raise InputError(f"`{option}` must come with `--dry-run`", f"{option} alone")
    from edgekd.jobs.distill import distill_run
    from edgekd.jobs.plan import make_plan
    from edgekd.jobs.ranks import follow
    from edgekd.training.sharding import rank

    if rank() > 0:
        follow()
        return

    run = run_folder(out, f"{recipe.name}-{chosen.name}", config, verify)
    plan = make_plan(recipe, chosen, run)
    asked = device_choice(devices, devices_file)
    result = distill_run(plan, console(), asked, tuple(bundles or ()))
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        from edgekd.jobs.summary import summary_lines

        print("\n".join(summary_lines(result)))


def _dry_run(recipe: Any, name: str | None, price: float | None, as_json: bool) -> None:
    from edgekd.jobs.gpus import find_gpu
    from edgekd.progress import console

    if name is None and price is not None:
        raise InputError("`--gpu-price` must come with `--gpu`", "--gpu-price alone")
    gpu = None if name is None else find_gpu(name, price)
    from edgekd.jobs.dry_run import dry_run
    from edgekd.jobs.dry_run_lines import lines, to_json
    from edgekd.jobs.memory_plan import needed_bytes

    found = dry_run(recipe, gpu, console())
    if as_json:
        print_json(to_json(found))
    else:
        print("\n".join(lines(found)), flush=True)
    if found.too_large:
        needed = max(needed_bytes(found.subject, phase) for phase in found.too_large)
        raise GateError(
            f"a step of {' and '.join(found.too_large)} must fit in memory: about "
            f"{needed / 2**30:.0f} GiB",
            f"{found.free_bytes / 2**30:.0f} GiB free",
            "Of these phases the plan alone is printed.",
        )
