"""The options that several verbs share, and what verbs do with them."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

ConfigOption = Annotated[
    str, typer.Option("--config", help="Recipe: a YAML file, or the name of a shipped one.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Override a recipe field; may be repeated."),
]
TeacherOption = Annotated[
    str | None,
    typer.Option("--teacher", help="Teacher: a diffusers folder or a .safetensors file."),
]
DataOption = Annotated[
    list[str] | None,
    typer.Option("--data", help="Folder, parquet, tar or glob of captioned images; repeatable."),
]
StudentOption = Annotated[
    str | None,
    typer.Option(
        "--student",
        help="Architecture: full, bk-sdm-small, …, or the file of one, or of a point of a search's "
        "front. Default: the recipe's, or else a search.",
    ),
]
LatencyOption = Annotated[
    float | None, typer.Option("--latency-ms", help="Goal: a picture in at most this time.")
]
SpeedupOption = Annotated[
    float | None, typer.Option("--speedup", help="Goal: so many times the teacher's speed.")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Run folder.")]
TargetOption = Annotated[str, typer.Option("--target", help="Target name or target folder.")]
SamplerOption = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        help="ddim, ddpm, dpm++2m, euler, euler_a, heun, lcm, pndm, tcd, unipc, or diffusers' "
        "class. Default: the folder's own.",
    ),
]
DevicesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--devices",
        metavar="NAME[,NAME]",
        help="Where models are timed: `local`, this machine, and names of devices.yaml.",
    ),
]
DevicesFileOption = Annotated[
    Path | None,
    typer.Option(
        "--devices-file",
        help="Default: devices.yaml of the working folder, else of ~/.config/edgekd.",
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Share the work among the machines of a Ray cluster: HOST:PORT of its head, `auto`, "
        "or none for the cores of this machine.",
    ),
]
VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="First compare the hashes of all earlier results, large ones too; what is damaged is "
        "made again.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def print_json(value: Any) -> None:
    print(json.dumps(value, allow_nan=False, default=str))


class RayCommand(TyperCommand):
    """A verb whose `--ray` may stand without an address."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_address(args))


def with_address(arguments: list[str]) -> list[str]:
    """The arguments with `local` behind a `--ray` that no address follows."""
    from edgekd.processes.ray_start import LOCAL, is_address

    filled = list[str]()
    for word, following in zip(arguments, [*arguments[1:], ""], strict=False):
        filled.append(word)
        if word == "--ray" and not is_address(following):
            filled.append(LOCAL)
    return filled


@contextlib.contextmanager
def cluster_at(address: str | None) -> Iterator[Any]:
    """The Ray cluster of `--ray`; None: none is asked for."""
    if address is None:
        yield None
        return
    from edgekd.measure.environment import cores
    from edgekd.processes.ray_start import open_cluster

    with open_cluster(address, cores()) as cluster:
        yield cluster


def run_folder(out: Path | None, name: str, config: str, verify: bool = False) -> Path:
    """`--out`, or `runs/<name>`; it may not hold the recipe, which a run writes anew.

    Args:
        verify: compare the hashes of what it holds.
    """
    from edgekd.resources import find_yaml
    from edgekd.run_folder import check_apart, verify_run

    run = out or Path("runs") / name
    check_apart(run, [("--config", find_yaml("configs", config))])
    if verify:
        from edgekd.progress import console

        verify_run(run, console().info)
    return run


def read_recipe(
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


def device_choice(names: list[str] | None, file: Path | None) -> Any:
    """What `--devices` and `--devices-file` ask for.

    Raises:
        InputError: an empty name or one twice; a file without names.
    """
    from edgekd.devices.connect import DeviceChoice
    from edgekd.devices.listing import parse_names
    from edgekd.errors import InputError

    asked = tuple(parse_names(names))
    if file is not None and not asked:
        raise InputError("`--devices-file` must come with `--devices`", str(file))
    return DeviceChoice(asked, file)


def parse_seconds(text: str) -> float:
    """`90`, `90s`, `10m` or `1.5h`.

    Raises:
        InputError: anything else.
    """
    import re

    from edgekd.errors import InputError

    units = {"": 1, "s": 1, "m": 60, "h": 3600}
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise InputError("a time must be a number above 0, with s, m or h", repr(text))
    return float(match[1]) * units[match[2]]


def goal_assignments(latency_ms: float | None, speedup: float | None) -> list[str]:
    """What a search's goal sets of a recipe: it takes the place of the recipe's, of either kind."""
    if latency_ms is None and speedup is None:
        return []
    goals = {"latency_ms": latency_ms, "speedup": speedup}
    return [f"search.{name}={json.dumps(value)}" for name, value in goals.items()]


def student_assignments(student: str | None) -> list[str]:
    """What `--student` sets of a recipe: a preset, or what a JSON file holds, an architecture or a
    point of a search's front."""
    if student is None:
        return []
    chosen: dict[str, Any] = {"preset": None, "arch": None, "candidate": None}
    if student.endswith(".json"):
        from edgekd.reading import read_object

        found = read_object(Path(student))
        chosen["candidate" if "arch" in found else "arch"] = found
    else:
        chosen["preset"] = student
    return [f"student.{name}={json.dumps(value)}" for name, value in chosen.items()]


def help_without_verb(context: typer.Context) -> None:
    """Callback of a group of verbs: print its help where none is given, with exit code 2."""
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)
