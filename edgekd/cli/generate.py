"""`edgekd generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekd.cli.options import (
    JsonOption,
    print_json,
)


def generate(
    pipeline: Annotated[Path, typer.Argument(help="A diffusers folder, or an exported one.")],
    prompts: Annotated[list[str], typer.Argument(help="One picture for each prompt.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")],
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Default: as the folder recommends, else 25."),
    ] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option("--guidance", min=1.0, help="Default: as the folder recommends, else 4."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw pictures with a teacher, a student or an exported pipeline."""
    from edgekd.jobs.generate import generate_run
    from edgekd.progress import console

    paths = generate_run(pipeline, prompts, out, seed, steps, guidance_scale, console())
    if as_json:
        print_json({"images": paths})
    else:
        print("\n".join(str(path) for path in paths))
