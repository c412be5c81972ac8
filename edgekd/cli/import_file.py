"""`edgekd import`."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekd.cli.options import JsonOption, print_json


class PredictionType(str, Enum):
    """What a U-Net predicts."""

    epsilon = "epsilon"
    v_prediction = "v_prediction"


def import_file(
    file: Annotated[Path, typer.Argument(help="Checkpoint of SD 1, 2 or XL (.safetensors).")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pipeline.")],
    prediction_type: Annotated[
        PredictionType | None,
        typer.Option("--prediction-type", help="Default: found out from the file."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", min=64, max=4096, help="Side of its pictures. Default: its own."),
    ] = None,
    vae: Annotated[
        Path | None,
        typer.Option("--vae", help="VAE instead of the file's: .safetensors, or a folder."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a diffusers folder of a checkpoint in one file."""
    from edgekd.diffusion.single_file.importer import ImportChoices
    from edgekd.jobs.imports import import_run

    prediction: Any = None if prediction_type is None else prediction_type.value
    facts = import_run(file, out, ImportChoices(prediction, size, vae))
    if as_json:
        print_json({"path": out, **asdict(facts)})
    else:
        print(f"{facts.summary()}\npipeline: {out}")
