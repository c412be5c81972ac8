"""`edgekd teach`: sub-verbs `run`, `evaluate`, `assemble` and `ablation`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekd.cli.options import (
    ConfigOption,
    JsonOption,
    OutOption,
    SetOption,
    help_without_verb,
    print_json,
    run_folder,
)

teach = typer.Typer(
    help="Train a teacher from scratch or on, and measure it.",
    invoke_without_command=True,
    callback=help_without_verb,
    rich_markup_mode=None,
)


@teach.command()
def run(
    config: ConfigOption = "starter-teacher",
    out: OutOption = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Training processes.")
    ] = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a teacher: VAE, text encoder and U-Net. Resumes by itself.

    `--set start_from=DIR` trains a teacher on.
    """
    from edgekd.progress import console
    from edgekd.resources import find_yaml
    from edgekd.teach.run import run_teach

    recipe = find_yaml("configs", config)
    run = run_folder(out, "teacher", config)
    folder = run_teach(recipe, assignments or [], run, processes, console())
    if as_json:
        print_json({"teacher": folder})
    else:
        print(f"teacher: {folder}")


@teach.command()
def assemble(
    run: Annotated[Path, typer.Argument(help="Run folder of `edgekd teach run`.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Default: `teacher` in the run folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the teacher that a run has come to so far, by the run's own recipe; it may go on."""
    from edgekd.teach.assemble import assemble_run

    folder, step = assemble_run(run, out)
    if as_json:
        print_json({"teacher": folder, "step": step})
    else:
        print(f"teacher: {folder} (step {step:,})")


@teach.command()
def evaluate(
    teacher: Annotated[str, typer.Argument(help="Teacher folder, or `starter`.")],
    config: ConfigOption = "starter-teacher",
    out: OutOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a finished teacher on the recipe's data."""
    from edgekd.progress import console
    from edgekd.resources import find_yaml
    from edgekd.teach.evaluation.run import run_evaluate

    run = run_folder(out, "teacher-evaluation", config)
    recipe = find_yaml("configs", config)
    result = run_evaluate(recipe, assignments or [], teacher, run, console())
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    for row in result.targets:
        reached = {True: "reached", False: "missed", None: "too few pictures"}[row.reached]
        value = "" if row.value is None else f"{row.value:.3g}"
        print(f"{row.name:<38}{value:>8}  {reached}")
    print(f"evaluation: {run / 'evaluation.md'}")


@teach.command()
def ablation(
    suite: Annotated[str, typer.Argument(help="Suite: a YAML file or a shipped name.")],
    config: ConfigOption = "starter-teacher",
    out: OutOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make short runs of the recipe with one thing changed in each, and compare them."""
    from edgekd.progress import console
    from edgekd.resources import find_yaml
    from edgekd.teach.evaluation.ablation import NOT_WRITTEN, run_ablation

    recipe = find_yaml("configs", config)
    path = find_yaml("benchmarks", suite, "SUITE")
    run = run_folder(out, path.stem, config)
    result = run_ablation(path, recipe, assignments or [], run, console())
    if as_json:
        print_json(result.model_dump(mode="json", exclude=NOT_WRITTEN))
    else:
        print(f"ablation: {run / 'ablation.md'}")
