"""`edgekd export`: one pipeline in one precision, proved equal to the original."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.artifacts import read_json
from edgekd.disk import check_writable
from edgekd.errors import InputError
from edgekd.folders import check_replaceable
from edgekd.jobs.prompts import check_prompts
from edgekd.progress import Progress
from edgekd.resources import resolve_pipeline
from edgekd.run_folder import check_apart
from edgekd.target import Target

if TYPE_CHECKING:
    from edgekd.export.bits.request import Quantize

# Parity prompts of `edgekd export` when none are given: any text will do, different lengths.
DEFAULT_PROMPTS = ["red apple", "a photo of a small house beside a lake, evening light"]


def export_run(
    pipeline: Path,
    target: Target,
    precision: str | None,
    out: Path,
    prompts: list[str] | None,
    progress: Progress,
    lora: Path | None = None,
    memory_limit: str | None = None,
    quantize: Quantize | None = None,
    tune: bool = False,
    recommended: tuple[int, float] | None = None,
) -> dict[str, Any]:
    """`edgekd export`: one pipeline in one precision.

    Args:
        precision: None: what the target deploys.
        lora: safetensors file to fuse first.
        memory_limit: `6GB` and the like; see `parse_bytes`.
        quantize: bits of each weight, from a recipe or chosen.
        tune: measure the runtime's options afterwards and keep the best in the manifest.
        recommended: denoising steps and guidance scale for the manifest, which parity follows.

    Returns:
        `{"path", "precision", "peak_rss_bytes", "pictures", "quantization", "tuning", "components":
        {name: {"parity": {"snr_db", "floor_db", "executed_by", ...}, "bytes", "peak_rss_bytes",
        "seconds", ...}}}`.
    """
    limit_bytes = None if memory_limit is None else parse_bytes(memory_limit)
    check_prompts(prompts or [])
    # A link stays, and `.` has no name to put a temporary folder beside.
    out = out.resolve()
    check_replaceable(out)
    check_writable(out)
    pipeline = resolve_pipeline(str(pipeline))
    check_apart(out, [("pipeline", pipeline), *([("--lora", lora)] if lora else [])])
    from edgekd.diffusion.health import check_parts
    from edgekd.diffusion.validate import inspect_folder
    from edgekd.export.bits.apply import mixed_precision
    from edgekd.export.bits.request import quantization_recipe
    from edgekd.export.protocol import ExportOptions, Generation, Tunes
    from edgekd.export.registry import get_exporter

    if recommended is not None and not math.isfinite(recommended[1]):
        raise InputError("`--guidance` must be finite", str(recommended[1]))
    options = ExportOptions(
        generation=Generation(*(recommended or ())),
        schedulers=tuple(target.schedulers),
        lora=lora,
        memory_limit_bytes=limit_bytes,
    )
    exporter = get_exporter(target.runtime)
    if tune and not isinstance(exporter, Tunes):
        raise InputError("--tune needs a runtime that has options to measure", exporter.name)
    check_parts(inspect_folder(pipeline))
    used = prompts or DEFAULT_PROMPTS
    chosen = precision or target.deploy
    if quantize is not None:
        chosen = mixed_precision(precision)
        recipe = quantization_recipe(
            quantize, target.name, exporter, pipeline, out, used, options, progress
        )
        options = replace(options, quantization=recipe)
    exported = exporter.export(pipeline, out, chosen, used, progress, options)
    if tune and isinstance(exporter, Tunes):
        progress.info("  timing the runtime's options")
        exporter.tune(exported.path, 0)
    manifest = read_json(exported.path / "manifest.json")
    return {
        "path": exported.path,
        "precision": exported.precision,
        "peak_rss_bytes": manifest["memory"]["peak_rss_bytes"],
        "pictures": manifest["pictures"],
        "quantization": manifest["quantization"],
        "tuning": manifest.get("tuning"),
        "components": manifest["components"],
    }


def parse_quantize(
    recipe: str | None, max_drop_db: float | None, size_budget: str | None
) -> Quantize | None:
    """`--quantize`, `--max-drop` and `--size-budget` together; None: nothing was asked.

    Raises:
        InputError: options that do not go together, or values that make no sense.
    """
    if recipe is None:
        if max_drop_db is not None or size_budget is not None:
            raise InputError(
                "--max-drop and --size-budget go with `--quantize auto`", "no --quantize"
            )
        return None
    from edgekd.export.bits.request import Quantize

    budget = None if size_budget is None else parse_bytes(size_budget)
    return Quantize(recipe, max_drop_db, budget)


def parse_bytes(text: str) -> int:
    """`6GB`, `6.5 GiB`, `800MB` or a plain number of bytes.

    Raises:
        InputError: anything else.
    """
    units = {"": 1, "MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2] not in units or float(match[1]) == 0:
        raise InputError(
            "a size must be a number above 0 with one of MB, GB, MiB, GiB, or in bytes", repr(text)
        )
    return int(float(match[1]) * units[match[2]])
