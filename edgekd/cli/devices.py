"""`edgekd devices`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgekd.cli.options import DevicesFileOption, JsonOption, print_json
from edgekd.errors import GateError, InputError

_MOST_LETTERS = 1 << 16  # of all that an agent printed

devices = typer.Typer(
    help="Devices that measure models: this machine, and others through their agent.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@devices.callback()
def _list(
    context: typer.Context,
    devices_file: DevicesFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the devices with what they run; those out of reach with why."""
    if context.invoked_subcommand is not None:
        if devices_file is not None or as_json:
            raise InputError(
                "options of `edgekd devices` must stand behind the verb",
                f"options before `{context.invoked_subcommand}`",
            )
        return
    from edgekd.jobs.devices import device_lines, list_devices

    found = list_devices(devices_file)
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
    else:
        print("\n".join(device_lines(found)))


@devices.command()
def add(
    line: Annotated[
        str,
        typer.Argument(metavar="LINE", help="What `edgekd agent` printed at its start; -: stdin."),
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="In place of the agent's own name.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Add it without asking whether it answers.")
    ] = False,
    devices_file: Annotated[
        Path | None,
        typer.Option(
            "--devices-file",
            help="Default: ~/.config/edgekd/devices.yaml; to be named where the working folder has "
            "a devices.yaml.",
        ),
    ] = None,
) -> None:
    """Add an agent that answers to the listing of devices."""
    from edgekd.jobs.device_listing import add_device, added_line

    text = sys.stdin.read(_MOST_LETTERS) if line == "-" else line
    print(added_line(add_device(text, name, devices_file, offline)))


@devices.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of devices.yaml.")],
    devices_file: DevicesFileOption = None,
) -> None:
    """Take an agent out of devices.yaml; its files stay where it is."""
    from edgekd.jobs.device_listing import remove_device

    print(f"`{name}` was removed from {remove_device(name, devices_file)}")


@devices.command()
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of devices.yaml, or `local`.")],
    devices_file: DevicesFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether a device's figures can be trusted: its clock against this machine's, a known
    sleep, the scatter of a fixed piece of work, throttling. Exit code 3 if not."""
    from edgekd.jobs.devices import check_device, trust_lines
    from edgekd.progress import console, counted

    found = check_device(name, devices_file, console())
    if as_json:
        print_json({"name": name, "trusted": found.trusted, **asdict(found)})
    else:
        print("\n".join(trust_lines(name, found)))
    if not found.trusted:
        raise GateError(
            f"figures of device `{name}` must be worth trusting",
            f"{counted(len(found.problems), 'problem')}, named above",
        )
