"""From `--quantize` to a recipe: read one, or measure the pipeline and choose."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.export.bits.apply import storages
from edgekd.export.bits.auto import BitBounds, choose_bits
from edgekd.export.bits.choices import MeasuredPipeline
from edgekd.export.bits.recipe import QuantizationRecipe, RecipeSource
from edgekd.export.checks import check_capabilities
from edgekd.export.lora import check_loras, fuse_loras
from edgekd.export.manifest import trace_origin
from edgekd.export.protocol import Exporter, ExportOptions
from edgekd.export.trajectory import parity_session
from edgekd.files import check_writable
from edgekd.folders import check_replaceable
from edgekd.processes.scratch import scratch_folder
from edgekd.progress import Progress
from edgekd.resources import data_root

AUTO = "auto"


@dataclass(frozen=True)
class Quantize:
    """`--quantize` and its companions.

    Attributes:
        recipe: `auto`, a recipe's file, or the name of one that ships with the target.
        max_drop_db, size_budget_bytes: for `auto`; see `Bounds`.
    """

    recipe: str
    max_drop_db: float | None = None
    size_budget_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.recipe == AUTO:
            self.bounds()
        elif self.max_drop_db is not None or self.size_budget_bytes is not None:
            raise InputError(
                "--max-drop and --size-budget go with `--quantize auto`",
                f"`--quantize {self.recipe}`",
            )

    def bounds(self) -> BitBounds:
        return BitBounds(self.max_drop_db, self.size_budget_bytes)


def recipe_file(recipe: str, target: str) -> Path:
    """A recipe's file: by its path, or by name among those of a shipped target.

    Raises:
        InputError: there is none; the message lists the shipped ones.
    """
    folder = data_root() / "export_targets" / target / "quantization"
    shipped = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if recipe in shipped:
        return shipped[recipe]
    if Path(recipe).is_file():
        return Path(recipe)
    names = ", ".join(shipped) or "none"
    raise InputError(
        f"`--quantize` must be `{AUTO}`, a recipe's file, or one of target `{target}` ({names})",
        repr(recipe),
    )


@dataclass(frozen=True)
class PlannedExport:
    """An export whose bits are to be chosen: what of, with what, and where it will be."""

    exporter: Exporter
    pipeline_path: Path
    out: Path
    options: ExportOptions


def choose_recipe(
    export: PlannedExport, bounds: BitBounds, progress: Progress
) -> QuantizationRecipe:
    """The recipe of `auto`: the pipeline is measured, and bits are chosen.

    The measurements stay in `<out>-sensitivity/`, beside the export that is not there yet: a run
    that was killed resumes, and another --max-drop measures little.

    Raises:
        InputError: a runtime that does not store bits per weight.
        GateError: no choice of bits does what is asked.
    """
    pipeline_path, out, options = export.pipeline_path, export.out, export.options
    (storage, *_) = storages(export.exporter).weight_storages
    _check_early(export)
    with _pipeline(pipeline_path, options) as pipeline:
        origin = trace_origin(pipeline_path, options.loras, type(pipeline).__name__)
        measured_pipeline = MeasuredPipeline(
            pipeline,
            RecipeSource(hash=origin.hash, pipeline=origin.pipeline),
            storage,
            parity_session(options.prompts, options.generation),
        )
        cache_folder = out.with_name(f"{out.name}-sensitivity")
        recipe = choose_bits(measured_pipeline, bounds, cache_folder, progress)
    gc.collect()  # the export starts with its own copy of the weights
    measured = recipe.measured
    assert measured is not None
    told = measured.held_out
    progress.info(
        f"  bits: weights {measured.weights_bytes / 1e6:.2f} MB (uniform 8 bits "
        f"{measured.uniform_weights_bytes / 1e6:.2f}), pictures {measured.psnr_db:.2f} dB "
        f"(uniform {measured.uniform_psnr_db:.2f}, predicted {measured.predicted_psnr_db:.2f})"
    )
    progress.info(
        f"  of {len(told.prompts)} held-out prompts {told.psnr_db:.2f} dB (uniform "
        f"{told.uniform_psnr_db:.2f}): {told.drop_db:.2f} dB lost, standard error "
        f"{told.drop_standard_error_db:.2f}, at most {told.worst_drop_db:.2f} of one picture"
    )
    return recipe


def _check_early(export: PlannedExport) -> None:
    """What the export would refuse after minutes of measurements."""
    from edgekd.diffusion.load import load_pipeline
    from edgekd.diffusion.scheduler_rules import check_steps

    check_replaceable(export.out)
    check_writable(export.out)
    outline = load_pipeline(export.pipeline_path, only=())
    check_capabilities(export.exporter, outline, None)
    check_steps(outline.scheduler, export.options.generation.steps)
    check_loras(export.options.loras)


@contextmanager
def _pipeline(path: Path, options: ExportOptions) -> Iterator[Any]:
    """The pipeline as it will be exported."""
    from edgekd.diffusion.load import load_pipeline

    if not options.loras:
        yield load_pipeline(path)
        return
    with scratch_folder() as folder:
        fused = folder / "fused"
        fuse_loras(load_pipeline(path), options.loras, fused)
        yield load_pipeline(fused)
