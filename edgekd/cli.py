"""The command line: thin verbs; heavy imports stand inside the verb that needs them."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from edgekd import __version__
from edgekd.errors import EdgekdError, GateError, InputError

app = typer.Typer(
    name="edgekd",
    help="Distil a Stable Diffusion teacher into a small student that runs fast on a device.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

ConfigOption = Annotated[
    str, typer.Option("--config", help="Recipe: a YAML file, or the name of a shipped one.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Override a recipe field; may be repeated."),
]
TeacherOption = Annotated[
    str | None, typer.Option("--teacher", help="Teacher folder in diffusers layout.")
]
DataOption = Annotated[
    list[str] | None,
    typer.Option("--data", help="Folder, parquet, tar or glob of captioned images; repeatable."),
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Run folder.")]
TargetOption = Annotated[str, typer.Option("--target", help="Target name or target folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def _print_json(value: Any) -> None:
    print(json.dumps(value, allow_nan=False, default=str))


def _version(value: bool) -> None:
    if value:
        print(f"edgekd {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    del version


def _recipe(
    config: str, assignments: list[str] | None, teacher: str | None, data: list[str] | None
) -> Any:
    from edgekd.recipe import load_recipe
    from edgekd.resources import find_yaml

    extra = list(assignments or [])
    if teacher is not None:
        extra.append(f"teacher.path={json.dumps(teacher)}")
    if data:
        extra.append(f"data.sources={json.dumps(data)}")
    return load_recipe(find_yaml("configs", config), extra)


@app.command()
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

    recipe = _recipe(config, assignments, teacher, data)
    chosen = load_target(target)
    from edgekd.pipeline import distill_run, make_plan

    plan = make_plan(recipe, chosen, out or Path("runs") / f"{recipe.name}-{chosen.name}")
    result = distill_run(plan, console())
    if as_json:
        _print_json(result)
    else:
        from edgekd.summary import summary_lines

        print("\n".join(summary_lines(result)))


@app.command()
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

    recipe = _recipe(config, assignments, teacher, data)
    from edgekd.verbs import prepare_run

    result = prepare_run(recipe, out or Path("runs") / f"{recipe.name}-data", console())
    if as_json:
        _print_json(result)
    else:
        print(f"kept {result['kept']} of {result['kept'] + result['skipped']} images")
        for reason, count in sorted(result["skipped_by_reason"].items()):
            print(f"  skipped, {reason}: {count}")
        print(f"train {result['train']}, validation {result['validation']}: {result['prepared']}")


@app.command()
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
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a teacher from scratch: VAE, text encoder and U-Net. Resumes by itself.

    With `--evaluate`, measure a finished one on the recipe's data instead; with `--ablation`,
    make short runs of the recipe with one thing changed in each.
    """
    from edgekd.progress import console
    from edgekd.resources import find_yaml

    recipe_path = find_yaml("configs", config)
    if evaluate is not None or ablation is not None:
        if processes is not None or (evaluate is not None and ablation is not None):
            raise InputError(
                "`--processes`, `--evaluate` and `--ablation` exclude one another", "two of them"
            )
        if ablation is not None:
            _compare_recipes(recipe_path, assignments or [], ablation, out, as_json)
        else:
            _evaluate_teacher(recipe_path, assignments or [], str(evaluate), out, as_json)
        return
    from edgekd.teacher.teach import run_teach

    run = out or Path("runs") / "teacher"
    folder = run_teach(recipe_path, assignments or [], run, processes, console())
    if as_json:
        _print_json({"teacher": folder})
    else:
        print(f"teacher: {folder}")


def _evaluate_teacher(
    recipe: Path, assignments: list[str], teacher: str, out: Path | None, as_json: bool
) -> None:
    from edgekd.evaluate.run import run_evaluate
    from edgekd.progress import console

    run = out or Path("runs") / "teacher-evaluation"
    result = run_evaluate(recipe, assignments, teacher, run, console())
    if as_json:
        _print_json(result)
        return
    for row in result["targets"]:
        reached = {True: "reached", False: "missed", None: "not measured"}[row["reached"]]
        value = "" if row["value"] is None else f"{row['value']:.3g}"
        print(f"{row['name']:<38}{value:>8}  {reached}")
    print(f"evaluation: {run / 'evaluation.md'}")


def _compare_recipes(
    recipe: Path, assignments: list[str], suite: str, out: Path | None, as_json: bool
) -> None:
    from edgekd.evaluate.ablation import run_ablation
    from edgekd.progress import console
    from edgekd.resources import find_yaml

    path = find_yaml("benchmarks", suite)
    run = out or Path("runs") / path.stem
    result = run_ablation(path, recipe, assignments, run, console())
    if as_json:
        _print_json(result)
    else:
        print(f"ablation: {run / 'ablation.md'}")


@app.command()
def export(
    pipeline: Annotated[Path, typer.Argument(help="Any diffusers pipeline folder.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the exported pipeline.")],
    target: TargetOption = "onnx",
    precision: Annotated[
        str | None, typer.Option("--precision", help="Default: what the target deploys.")
    ] = None,
    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", help="Prompt for the parity check; repeatable.")
    ] = None,
    lora: Annotated[
        Path | None, typer.Option("--lora", help="LoRA (safetensors) to fuse first.")
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option("--memory-limit", metavar="SIZE", help="Memory to stay within, as in 6GB."),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option(
            "--quantize",
            metavar="auto|RECIPE",
            help="Bits of each weight: chosen by measurement, or from a recipe (YAML).",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop",
            metavar="DB",
            help="With auto: PSNR that pictures may lose against uniform 8-bit weights.",
        ),
    ] = None,
    size_budget: Annotated[
        str | None,
        typer.Option("--size-budget", metavar="SIZE", help="With auto: bound of all weights."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Export a student or a teacher for a target and prove it equal to the original."""
    from edgekd.progress import console
    from edgekd.target import load_target

    chosen = load_target(target)
    from edgekd.verbs import export_run, parse_quantize

    bits = parse_quantize(quantize, max_drop, size_budget)
    result = export_run(
        pipeline, chosen, precision, out, prompts, console(), lora, memory_limit, bits
    )
    if as_json:
        _print_json(result)
    else:
        for component, row in result["components"].items():
            parity = row["parity"]
            print(
                f"{component}: {parity['snr_db']:.1f} dB (floor {parity['floor_db']:.0f} dB), "
                f"{row['bytes'] / 1e6:.1f} MB, {row['seconds']:.1f} s, "
                f"peak {row['peak_rss_bytes'] / 1e9:.2f} GB"
            )
        print(f"export: {result['path']}")


@app.command()
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
        typer.Option("--student", help="Student folder to compare with the teacher; repeatable."),
    ] = None,
    out: OutOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure students against the teacher and render the matrix report.

    A suite with variants trains its own students first. A suite of exports measures what exporting
    takes, on a pipeline of its own.
    """
    from edgekd.benchmark.suite import ExportSuite, load_any_suite
    from edgekd.progress import console
    from edgekd.resources import find_yaml
    from edgekd.target import load_target

    chosen = load_any_suite(find_yaml("benchmarks", suite))
    if isinstance(chosen, ExportSuite):
        if teacher or data or student or assignments:
            raise InputError(
                f"suite `{chosen.name}` makes its own pipeline",
                "--teacher, --data, --student or --set",
                "Leave them out.",
            )
        names = [target] if target else list(chosen.targets)
        run = out or Path("runs") / chosen.name
        _benchmark_exports(chosen, [load_target(name) for name in names], run, as_json)
        return
    recipe = _recipe(config, assignments, teacher, data)
    from edgekd.verbs import benchmark_run

    run = out or Path("runs") / f"{recipe.name}-{Path(suite).stem}"
    result = benchmark_run(
        recipe, load_target(target or "onnx"), suite, student or [], run, console()
    )
    if as_json:
        _print_json(result)
    else:
        print(f"report: {result['report']}")


def _benchmark_exports(suite: Any, targets: list[Any], run: Path, as_json: bool) -> None:
    from edgekd.benchmark.exports import table
    from edgekd.progress import console
    from edgekd.verbs import export_benchmark_run

    result = export_benchmark_run(suite, targets, run, console())
    if as_json:
        _print_json(result)
    else:
        print("\n".join([*table(result), f"report: {result['report']}"]))
    failed = [f"{row['target']} {row['precision']}" for row in result["rows"] if "error" in row]
    if failed:
        raise GateError("every export of the suite must pass its gates", ", ".join(failed))


@app.command()
def generate(
    pipeline: Annotated[Path, typer.Argument(help="A diffusers folder, or an exported one.")],
    prompts: Annotated[list[str], typer.Argument(help="One picture for each prompt.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")],
    steps: Annotated[int, typer.Option("--steps", min=1)] = 20,
    guidance_scale: Annotated[float, typer.Option("--guidance", min=1.0)] = 4.0,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw pictures with a teacher, a student or an exported pipeline."""
    from edgekd.verbs import generate_run

    paths = generate_run(pipeline, prompts, out, steps, guidance_scale, seed)
    if as_json:
        _print_json({"images": paths})
    else:
        print("\n".join(str(path) for path in paths))


@app.command()
def inspect(
    folder: Annotated[Path | None, typer.Argument(help="A diffusers pipeline folder.")] = None,
    arch: Annotated[
        str | None, typer.Option("--arch", help="Published architecture: sd15, sd21 or sdxl.")
    ] = None,
    student: Annotated[
        str | None, typer.Option("--student", help="Student preset to apply to the U-Net.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Parameters, tensors, MACs and bytes of every component; needs no weights."""
    if (folder is None) == (arch is None):
        raise InputError(
            "exactly one of a folder and `--arch` must be given", f"{folder=!s}, {arch=}"
        )
    from edgekd.student.inspect import inspect_components

    result = inspect_components(folder, arch, student)
    if as_json:
        _print_json(result)
        return
    print(f"{'component':<16}{'parameters':>15}{'tensors':>9}{'GMACs':>10}{'MB':>10}")
    for name, row in result["components"].items():
        print(
            f"{name:<16}{row['parameters']:>15,}{row['tensors']:>9}"
            f"{row['macs'] / 1e9:>10.2f}{row['bytes'] / 1e6:>10.1f}"
        )


@app.command()
def targets(as_json: JsonOption = False) -> None:
    """List the export targets."""
    from edgekd.target import list_targets

    rows = list_targets()
    if as_json:
        _print_json([row.model_dump() for row in rows])
        return
    for row in rows:
        print(f"{row.name:<12}{row.runtime:<10}{','.join(row.precisions):<20}{row.description}")


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can run, and how to install what it can't."""
    from edgekd.doctor import examine

    rows = examine()
    if as_json:
        _print_json(rows)
        return
    for row in rows:
        print(f"{'ok' if row['ok'] else '--':<4}{row['name']:<22}{row['detail']}")


def _terminate(signum: int, frame: FrameType | None) -> None:
    del frame
    raise SystemExit(128 + signum)


def _fail(message: str, code: int) -> None:
    print(f"edgekd: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.exit(code)


def main() -> None:
    """Entry point: every user-caused failure is one line on stderr and an exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    # The tokenizers library warns at each fork of a data worker unless told not to use threads.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except EdgekdError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted; finished work is kept, run the same command again to go on", 130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        _fail(f"the out folder must be writable and have space, but got {error}", 2)
