"""The command line: thin verbs; heavy imports stand inside the verb that needs them."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from edgekd import __version__
from edgekd.cli_export import benchmark, export
from edgekd.cli_options import JsonOption, print_json
from edgekd.cli_train import distill, prepare, teach
from edgekd.disk import disk_problem
from edgekd.errors import EdgekdError, InputError

# Newer versions of Typer carry Click's exceptions within, older ones import them from Click.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]

INTERRUPTED = 130

app = typer.Typer(
    name="edgekd",
    help="Distil a Stable Diffusion teacher into a small student that runs fast on a device.",
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for _verb in (distill, prepare, teach, export, benchmark):
    app.command()(_verb)


def _version(value: bool) -> None:
    if value:
        print(f"edgekd {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    del version
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


@app.command()
def generate(
    pipeline: Annotated[Path, typer.Argument(help="A diffusers folder, or an exported one.")],
    prompts: Annotated[list[str], typer.Argument(help="One picture for each prompt.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")],
    steps: Annotated[int, typer.Option("--steps", min=1)] = 20,
    guidance_scale: Annotated[float, typer.Option("--guidance", min=1.0)] = 4.0,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw pictures with a teacher, a student or an exported pipeline."""
    from edgekd.verbs import generate_run

    paths = generate_run(pipeline, prompts, out, steps, guidance_scale, seed)
    if as_json:
        print_json({"images": paths})
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
            "exactly one of a folder and `--arch` must be given",
            "neither" if folder is None else "both",
        )
    from edgekd.resources import resolve_pipeline
    from edgekd.student.inspect import inspect_components

    path = None if folder is None else resolve_pipeline(str(folder))
    result = inspect_components(path, arch, student)
    if as_json:
        print_json(result)
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
        print_json([row.model_dump() for row in rows])
        return
    for row in rows:
        print(f"{row.name:<14}{row.runtime:<10}{','.join(row.precisions):<20}{row.description}")


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can run, and how to install what it can't."""
    from edgekd.doctor import examine

    rows = examine()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        print(f"{'ok' if row['ok'] else '--':<4}{row['name']:<22}{row['detail']}")


def _terminate(signum: int, frame: FrameType | None) -> None:
    del frame
    raise SystemExit(128 + signum)


def _fail(message: str, code: int) -> NoReturn:
    print(f"edgekd: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.exit(code)


def _usage(error: Any) -> str:
    """A usage error of Typer's as one line: what is wrong, what was found, and where help is."""
    message = error.format_message().rstrip(".")
    value = _value_of(getattr(getattr(error, "param", None), "opts", []))
    if value and value not in message:
        message += f", but got {value!r}"
    command = error.ctx.command_path if error.ctx else app.info.name
    return f"{message}{'' if message.endswith('?') else '.'} See `{command} --help`."


def _value_of(options: list[str]) -> str:
    """What the user wrote behind one of these options, which Typer's messages may leave out."""
    for word, following in itertools.pairwise([*sys.argv, ""]):
        name, equals, value = word.partition("=")
        if name in options and name.startswith("--"):
            return value if equals else following
    return ""


def main() -> None:
    """Entry point: every user-caused failure is one line on stderr and an exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    # The tokenizers library warns at each fork of a data worker unless told not to use threads.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        # Otherwise Typer would print its own errors, several lines each.
        code = app(prog_name=app.info.name, standalone_mode=False) or 0
    except EdgekdError as error:
        _fail(str(error), error.exit_code)
    except _UsageError as error:
        _fail(_usage(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except OSError as error:
        if isinstance(error, PermissionError):
            # Nobody said which it is: an input that is closed, or the output.
            rule = "edgekd must be allowed to read its input and to write its output"
            _fail(f"{rule}, but got {error.filename} ({error.strerror})", 2)
        problem = disk_problem(error, Path.cwd())
        if problem is None:
            raise
        _fail(str(problem), problem.exit_code)
    if code == INTERRUPTED:
        _fail("interrupted; finished work is kept, run the same command again to go on", code)
    sys.exit(code)
