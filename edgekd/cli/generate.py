"""`edgekd generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekd.cli.options import (
    JsonOption,
    SamplerOption,
    print_json,
)


def generate(
    pipeline: Annotated[Path, typer.Argument(help="A diffusers folder, or an exported one.")],
    prompts: Annotated[
        list[str],
        typer.Argument(help="One picture for each; one that begins with a dash goes behind `--`."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")],
    negative_prompt: Annotated[
        str | None, typer.Option("--negative-prompt", help="What to lead away from.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Default: as the folder recommends, else 25."),
    ] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option("--guidance", min=0.0, help="Default: as the folder recommends, else 4."),
    ] = None,
    sampler: SamplerOption = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**63 - 1, help="Picture i takes seed + i.")
    ] = 0,
    height: Annotated[int | None, typer.Option("--height", min=1, help="In pixels.")] = None,
    width: Annotated[int | None, typer.Option("--width", min=1, help="In pixels.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw pictures with a teacher, a student or an exported pipeline."""
    from edgekd.jobs.generate import DrawRequest, generate_run
    from edgekd.progress import console

    drawing = DrawRequest(
        prompts, negative_prompt, seed, steps, guidance_scale, height, width, sampler
    )
    paths = generate_run(pipeline, drawing, out, console())
    if as_json:
        print_json({"images": paths})
    else:
        print("\n".join(str(path) for path in paths))
