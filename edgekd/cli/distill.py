"""`edgekd distill`."""

from __future__ import annotations

from edgekd.cli.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    OutOption,
    SetOption,
    StudentOption,
    TargetOption,
    TeacherOption,
    print_json,
    read_recipe,
    run_folder,
    student_assignments,
)


def distill(
    target: TargetOption = "onnx",
    config: ConfigOption = "starter",
    teacher: TeacherOption = None,
    data: DataOption = None,
    student: StudentOption = None,
    out: OutOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """The whole way: prepare, distil, export, check parity, benchmark, report."""
    from edgekd.progress import console
    from edgekd.target import load_target

    asked = [*student_assignments(student), *(assignments or [])]
    recipe = read_recipe(config, asked, teacher, data)
    chosen = load_target(target)
    from edgekd.jobs.distill import distill_run
    from edgekd.jobs.plan import make_plan

    run = run_folder(out, f"{recipe.name}-{chosen.name}", config)
    plan = make_plan(recipe, chosen, run)
    result = distill_run(plan, console())
    if as_json:
        print_json(result)
    else:
        from edgekd.jobs.summary import summary_lines

        print("\n".join(summary_lines(result)))
