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
from edgekd.cli.agent import agent
from edgekd.cli.benchmark import benchmark
from edgekd.cli.bundle import bundle
from edgekd.cli.devices import devices
from edgekd.cli.distill import distill
from edgekd.cli.doctor import doctor
from edgekd.cli.export import export
from edgekd.cli.generate import generate
from edgekd.cli.import_file import import_file
from edgekd.cli.inspect import inspect
from edgekd.cli.options import RayCommand, help_without_verb
from edgekd.cli.prepare import prepare
from edgekd.cli.report import report
from edgekd.cli.search import search
from edgekd.cli.serve import serve
from edgekd.cli.targets import targets
from edgekd.cli.teach import teach
from edgekd.errors import EdgekdError

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
for _verb in (
    distill,
    prepare,
    search,
    export,
    benchmark,
    report,
    generate,
    bundle,
    serve,
    agent,
    inspect,
    targets,
    doctor,
):
    app.command(cls=RayCommand)(_verb)
app.command("import")(import_file)
app.add_typer(teach, name="teach")
app.add_typer(devices, name="devices")


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
    help_without_verb(context)


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
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # `nohup` has it ignored
        signal.signal(signal.SIGHUP, _terminate)
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
        from edgekd.files import disk_problem

        problem = disk_problem(error, Path.cwd())
        if problem is None:
            raise
        _fail(str(problem), problem.exit_code)
    if code == INTERRUPTED:
        _fail("interrupted; finished work is kept, run the same command again to go on", code)
    sys.exit(code)
