"""Verbs that prepare data and train; heavy imports stand inside the verb that needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekd.cli_options import (
    ConfigOption,
    DataOption,
    JsonOption,
    OutOption,
    SetOption,
    TargetOption,
    TeacherOption,
    print_json,
    read_recipe,
)
from edgekd.errors import InputError


def distill(
    target: TargetOption = "onnx",
    config: ConfigOption = "starter",
    teacher: TeacherOption = None,
    data: DataOption = None,
    out: OutOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """The whole way: prepare, distil, export, check parity, benchmark, report."""
    from edgekd.progress import console
    from edgekd.target import load_target

    recipe = read_recipe(config, assignments, teacher, data)
    chosen = load_target(target)
    from edgekd.pipeline import distill_run, make_plan

    plan = make_plan(recipe, chosen, out or Path("runs") / f"{recipe.name}-{chosen.name}")
    result = distill_run(plan, console())
    if as_json:
        print_json(result)
    else:
        from edgekd.summary import summary_lines

        print("\n".join(summary_lines(result)))


def prepare(
    config: ConfigOption = "starter",
    teacher: TeacherOption = None,
    data: DataOption = None,
    out: OutOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify, filter, split and shard images; cache the teacher's latents and text embeddings."""
    from edgekd.progress import console

    recipe = read_recipe(config, assignments, teacher, data)
    from edgekd.verbs import prepare_run

    result = prepare_run(recipe, out or Path("runs") / f"{recipe.name}-data", console())
    if as_json:
        print_json(result)
    else:
        kept = result["kept"]
        print(f"kept {sum(kept.values())} of {result['records']} images")
        for reason, count in sorted(result["skipped"].items()):
            print(f"  skipped, {reason}: {count}")
        print(f"train {kept['train']}, validation {kept['validation']}: {result['prepared']}")


def teach(
    config: ConfigOption = "starter-teacher",
    out: OutOption = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Training processes.")
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option("--evaluate", help="Measure this teacher folder (or `starter`); no training."),
    ] = None,
    ablation: Annotated[
        str | None,
        typer.Option("--ablation", help="Train and compare the recipe's variants in this suite."),
    ] = None,
    assemble: Annotated[
        Path | None,
        typer.Option(
            "--assemble",
            help="Write the teacher of this run folder's last checkpoint; no training.",
        ),
    ] = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a teacher: VAE, text encoder and U-Net. Resumes by itself.

    With `--evaluate`, measure a finished one on the recipe's data instead; with `--ablation`,
    make short runs of the recipe with one thing changed in each; with `--assemble`, take what a
    run has learned so far, by the run's own recipe. `--set start_from=DIR` trains a teacher on.
    """
    from edgekd.progress import console
    from edgekd.resources import find_yaml

    given = {
        "--processes": processes,
        "--evaluate": evaluate,
        "--ablation": ablation,
        "--assemble": assemble,
    }
    used = [name for name, value in given.items() if value is not None]
    if len(used) > 1:
        raise InputError(f"only one of {', '.join(given)} may be given", " and ".join(used))
    if assemble is not None:
        if assignments:
            raise InputError("`--assemble` takes the run's own recipe", "--set", "Leave it out.")
        from edgekd.teach.assemble import assemble_run

        folder, step = assemble_run(assemble, out)
        if as_json:
            print_json({"teacher": folder, "step": step})
        else:
            print(f"teacher: {folder} (step {step:,})")
        return
    recipe_path = find_yaml("configs", config)
    if ablation is not None:
        _compare_recipes(recipe_path, assignments or [], ablation, out, as_json)
        return
    if evaluate is not None:
        _evaluate_teacher(recipe_path, assignments or [], evaluate, out, as_json)
        return
    from edgekd.teach.run import run_teach

    run = out or Path("runs") / "teacher"
    folder = run_teach(recipe_path, assignments or [], run, processes, console())
    if as_json:
        print_json({"teacher": folder})
    else:
        print(f"teacher: {folder}")


def _evaluate_teacher(
    recipe: Path, assignments: list[str], teacher: str, out: Path | None, as_json: bool
) -> None:
    from edgekd.progress import console
    from edgekd.teach.evaluation.run import run_evaluate

    run = out or Path("runs") / "teacher-evaluation"
    result = run_evaluate(recipe, assignments, teacher, run, console())
    if as_json:
        print_json(result)
        return
    for row in result["targets"]:
        reached = {True: "reached", False: "missed", None: "too few pictures"}[row["reached"]]
        value = "" if row["value"] is None else f"{row['value']:.3g}"
        print(f"{row['name']:<38}{value:>8}  {reached}")
    print(f"evaluation: {run / 'evaluation.md'}")


def _compare_recipes(
    recipe: Path, assignments: list[str], suite: str, out: Path | None, as_json: bool
) -> None:
    from edgekd.progress import console
    from edgekd.resources import find_yaml
    from edgekd.teach.evaluation.ablation import run_ablation

    path = find_yaml("benchmarks", suite, "--ablation")
    run = out or Path("runs") / path.stem
    result = run_ablation(path, recipe, assignments, run, console())
    if as_json:
        print_json(result)
    else:
        print(f"ablation: {run / 'ablation.md'}")
