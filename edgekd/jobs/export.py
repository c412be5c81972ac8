"""`edgekd export`: one pipeline in one precision, proved equal to the original."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.diffusion.resolve import resolve_pipeline
from edgekd.errors import InputError
from edgekd.export.formats import FormatRequest, Written, formats, get_format
from edgekd.export.lora import Lora
from edgekd.export.protocol import ExportOptions, Generation, Tunes
from edgekd.files import check_writable, resolved
from edgekd.folders import check_replaceable
from edgekd.jobs.prompts import say_what_is_cut
from edgekd.progress import Progress
from edgekd.run_folder import check_apart
from edgekd.runtime.conditions import check_prompts
from edgekd.target import Target

if TYPE_CHECKING:
    from edgekd.export.bits.recipe import QuantizationRecipe
    from edgekd.export.bits.request import PlannedExport, Quantize
    from edgekd.export.manifest import Manifest

# Parity prompts of `edgekd export` when none are given: any text will do, different lengths.
DEFAULT_PROMPTS = ["red apple", "a photo of a small house beside a lake, evening light"]


@dataclass(frozen=True)
class ExportRequest:
    """One pipeline, to export in one precision.

    Attributes:
        precision: None: what the target deploys.
        prompts: of the parity check; none: `DEFAULT_PROMPTS`.
        loras: to fuse first.
        quantize: bits of each weight, from a recipe or chosen.
        tune: measure the runtime's options afterwards and keep the best in the manifest.
        steps, guidance_scale: recommended in the manifest, parity follows them; None: as the
            pipeline's card says, else edgekd's own.
        min_psnr_db: what pictures must keep; None: the precision's own floor.
    """

    pipeline: Path
    target: Target
    out: Path
    precision: str | None = None
    prompts: list[str] = field(default_factory=list)
    loras: tuple[Lora, ...] = ()
    memory_limit_bytes: int | None = None
    quantize: Quantize | None = None
    tune: bool = False
    steps: int | None = None
    guidance_scale: float | None = None
    min_psnr_db: float | None = None


@dataclass(frozen=True)
class Exported:
    """A finished export."""

    path: Path
    manifest: Manifest

    def lines(self) -> list[str]:
        """What `edgekd export` prints."""
        parts = self.manifest.components.items()
        return [*(f"{name}: {facts.summary()}" for name, facts in parts), f"export: {self.path}"]

    def to_json(self) -> dict[str, Any]:
        """What `edgekd export --json` prints."""
        told = {"precision", "pictures", "quantization", "tuning", "components"}
        return {
            "path": self.path,
            "peak_rss_bytes": self.manifest.memory.peak_rss_bytes,
            **self.manifest.model_dump(mode="json", include=told),
        }


def _check_limit(request: ExportRequest) -> None:
    """Raises InputError: a limit on memory beside what opens whole pipelines in this process."""
    from edgekd.export.bits.request import AUTO

    chosen = request.quantize is not None and request.quantize.recipe == AUTO
    if request.memory_limit_bytes is not None and (request.tune or chosen):
        raise InputError(
            "`--memory-limit` must stand without what measures whole pipelines",
            "--tune" if request.tune else "--quantize auto",
            "Leave one of them out; a recipe that `--quantize auto` wrote may be given with it.",
        )


def export_run(request: ExportRequest, progress: Progress) -> Exported | Written:
    """`edgekd export`: one pipeline in one precision, or in a file format."""
    check_prompts(request.prompts)
    _check_limit(request)
    # A link stays, and `.` has no name to put a temporary folder beside.
    out = resolved(request.out)
    check_replaceable(out)
    check_writable(out)
    pipeline = resolve_pipeline(str(request.pipeline))
    files = [("--lora", lora.path) for lora in request.loras]
    check_apart(out, [("pipeline", pipeline), *files])
    generation = _generation(request, pipeline)
    if request.target.runtime in formats():
        return _write_format(request, pipeline, out, generation, progress)
    from edgekd.diffusion.health import check_parts
    from edgekd.diffusion.validate import inspect_folder
    from edgekd.export.bits.apply import mixed_precision
    from edgekd.export.bits.request import PlannedExport
    from edgekd.export.manifest import read_manifest
    from edgekd.export.registry import get_exporter

    target = request.target
    options = ExportOptions(
        prompts=tuple(request.prompts or DEFAULT_PROMPTS),
        generation=generation,
        schedulers=tuple(target.schedulers),
        loras=request.loras,
        memory_limit_bytes=request.memory_limit_bytes,
        min_psnr_db=request.min_psnr_db,
    )
    exporter = get_exporter(target.runtime)
    if request.tune and not isinstance(exporter, Tunes):
        raise InputError("--tune needs a runtime that has options to measure", exporter.name)
    check_parts(inspect_folder(pipeline))
    say_what_is_cut(pipeline, options.prompts, progress)
    precision = request.precision or target.deploy
    if request.quantize is not None:
        precision = mixed_precision(request.precision)
        planned = PlannedExport(exporter, pipeline, out, options)
        recipe = _quantization(request.quantize, target, planned, progress)
        options = replace(options, quantization=recipe)
    exported = exporter.export(pipeline, out, precision, progress, options)
    if request.tune and isinstance(exporter, Tunes):
        progress.info("  timing the runtime's options")
        exporter.tune(exported.path, 0)
    return Exported(exported.path, read_manifest(exported.path))


def _generation(request: ExportRequest, pipeline: Path) -> Generation:
    """What is recommended: as asked, else as the pipeline's card says.

    Raises:
        InputError: guidance that is not finite.
    """
    from edgekd.benchmark.generation import recommended_generation

    said = recommended_generation(pipeline)
    steps, scale = request.steps, request.guidance_scale
    generation = Generation(
        said.steps if steps is None else steps,
        said.guidance_scale if scale is None else scale,
    )
    if not math.isfinite(generation.guidance_scale):
        raise InputError("`--guidance` must be finite", str(generation.guidance_scale))
    return generation


def _write_format(
    request: ExportRequest, pipeline: Path, out: Path, generation: Generation, progress: Progress
) -> Written:
    """A pipeline in a file format, which is not drawn with here."""
    from edgekd.diffusion.health import check_parts
    from edgekd.diffusion.validate import inspect_folder

    drawn = {
        "--quantize": request.quantize,
        "--tune": request.tune or None,
        "--min-psnr": request.min_psnr_db,
        "--memory-limit": request.memory_limit_bytes,
        "--prompt": request.prompts or None,
    }
    given = [name for name, value in drawn.items() if value is not None]
    if given:
        raise InputError(
            f"{', '.join(drawn)} go with a target that edgekd draws with",
            f"{given[0]} with --target {request.target.name}",
        )
    check_parts(inspect_folder(pipeline))
    precision = request.precision or request.target.deploy
    asked = FormatRequest(pipeline, out, precision, request.loras, generation)
    return get_format(request.target.runtime).write(asked, progress)


def _quantization(
    quantize: Quantize, target: Target, export: PlannedExport, progress: Progress
) -> QuantizationRecipe:
    """The recipe that is named, or one that is chosen for this export.

    Raises:
        InputError: no such recipe, or a runtime that does not store bits per weight.
        GateError: no choice of bits does what is asked.
    """
    from edgekd.export.bits.apply import storages
    from edgekd.export.bits.recipe import load_quantization
    from edgekd.export.bits.request import AUTO, choose_recipe, recipe_file

    storages(export.exporter)  # refuses a runtime that has none
    if quantize.recipe == AUTO:
        return choose_recipe(export, quantize.bounds(), progress)
    return load_quantization(recipe_file(quantize.recipe, target.name))


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
