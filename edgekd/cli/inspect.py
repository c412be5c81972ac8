"""`edgekd inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekd.cli.options import (
    JsonOption,
    print_json,
)
from edgekd.errors import InputError


def inspect(
    folder: Annotated[
        Path | None, typer.Argument(help="A diffusers folder or a checkpoint.")
    ] = None,
    arch: Annotated[
        str | None, typer.Option("--arch", help="Published architecture: sd15, sd21 or sdxl.")
    ] = None,
    student: Annotated[
        str | None, typer.Option("--student", help="Student preset to apply to the U-Net.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Parameters, tensors, MACs and bytes of every component of a pipeline that edgekd takes."""
    if (folder is None) == (arch is None):
        raise InputError(
            "exactly one of a folder and `--arch` must be given",
            "neither" if folder is None else "both",
        )
    from edgekd.diffusion.resolve import resolve_pipeline
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
