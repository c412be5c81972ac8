"""`edgekd export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekd.cli.options import (
    JsonOption,
    TargetOption,
    print_json,
)


def export(
    pipeline: Annotated[Path, typer.Argument(help="Any diffusers folder or checkpoint.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the exported pipeline.")],
    target: TargetOption = "onnx",
    precision: Annotated[
        str | None, typer.Option("--precision", help="Default: what the target deploys.")
    ] = None,
    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", help="Prompt for the parity check; repeatable.")
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            "--lora",
            metavar="FILE[:WEIGHT]",
            help="LoRA (safetensors) to fuse first, as in style.safetensors:0.7; repeatable.",
        ),
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
            help="Bits of each weight: chosen by measurement, or a recipe's file or shipped name.",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop",
            metavar="DB",
            help="With auto: PSNR that pictures may lose against uniform 8-bit weights, "
            "held-out ones too.",
        ),
    ] = None,
    size_budget: Annotated[
        str | None,
        typer.Option("--size-budget", metavar="SIZE", help="With auto: bound of all weights."),
    ] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Time the runtime's options here and keep the best.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            min=1,
            help="Denoising steps to recommend, which parity follows; default: as the pipeline's "
            "card says, else 25.",
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            "--guidance",
            min=1,
            help="Guidance scale to recommend; default: as the pipeline's card says, else 4.",
        ),
    ] = None,
    min_psnr: Annotated[
        float | None,
        typer.Option(
            "--min-psnr",
            metavar="DB",
            min=0,
            help="PSNR that pictures must keep against torch's; default: the precision's floor.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Export a student or a teacher for a target and prove it equal to the original."""
    from edgekd.progress import console
    from edgekd.target import load_target

    chosen = load_target(target)
    from edgekd.export.lora import parse_lora
    from edgekd.jobs.export import ExportRequest, export_run, parse_bytes, parse_quantize

    request = ExportRequest(
        pipeline,
        chosen,
        out,
        precision,
        prompts or [],
        tuple(parse_lora(text) for text in lora or []),
        None if memory_limit is None else parse_bytes(memory_limit),
        parse_quantize(quantize, max_drop, size_budget),
        tune,
        steps,
        guidance,
        min_psnr,
    )
    exported = export_run(request, console())
    if as_json:
        print_json(exported.to_json())
    else:
        print("\n".join(exported.lines()))
