"""The procedure that all exporters share: record, convert part by part, prove, write whole."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgekd.artifacts import (
    ExportedPipeline,
    atomic_folder,
    finish,
    hash_value,
    read_json,
    write_json,
)
from edgekd.disk import check_writable, disk_errors
from edgekd.errors import InputError
from edgekd.export.bits.apply import AppliedRecipe, apply_recipe
from edgekd.export.capture import (
    PIPELINE_ATTRIBUTES,
    component_names,
    is_tiny,
    latent_size,
    picture_multiple,
    vae_scale_factor,
)
from edgekd.export.isolate import Worker, make_worker
from edgekd.export.lora import check_lora
from edgekd.export.manifest import (
    ComponentFacts,
    all_versions,
    folder_bytes,
    read_manifest,
    scheduler_warning,
    source_facts,
    versions,
    write_manifest,
)
from edgekd.export.parity import PictureParity
from edgekd.export.protocol import Exporter, ExportOptions, WritesClientFiles
from edgekd.export.steps import (
    DrawOrder,
    FuseOrder,
    PartOrder,
    RecordOrder,
    check,
    convert,
    draw,
    fuse,
    is_made_of_files,
    record,
)
from edgekd.export.trajectory_files import save_trajectory
from edgekd.folders import check_replaceable
from edgekd.progress import Progress


def export_key(
    exporter: Exporter,
    source: str,
    precision: str,
    prompts: list[str],
    options: ExportOptions,
) -> str:
    """Content hash of everything that an export depends on.

    Args:
        source: content hash of the pipeline and of what is fused into it.
    """
    return hash_value(
        {
            "source": source,
            "runtime": exporter.name,
            "precision": precision,
            "prompts": prompts,
            "generation": asdict(options.generation),
            "versions": versions(),
            "exporter": exporter.facts(),
            **_recipe_key(options),
        }
    )


def _recipe_key(options: ExportOptions) -> dict[str, Any]:
    recipe = options.quantization
    return {} if recipe is None else {"quantization": recipe.model_dump()}


def export_pipeline(
    exporter: Exporter,
    pipeline_path: Path,
    out: Path,
    precision: str,
    parity_prompts: list[str],
    progress: Progress,
    options: ExportOptions | None = None,
) -> ExportedPipeline:
    """Export one precision of a pipeline: `Exporter.export` of every exporter here.

    The pipeline's parts are converted one at a time, the U-Net last; `edgekd.export.isolate` says
    in which process. All that can be checked without weights is checked first.
    """
    from edgekd.diffusion.load import load_pipeline

    started = time.monotonic()
    options = options or ExportOptions()
    check_replaceable(out)
    check_writable(out)
    outline = load_pipeline(pipeline_path, only=())
    applied = None
    if options.quantization is not None:
        applied = apply_recipe(exporter, outline, options.quantization, precision)
    check_capabilities(exporter, outline, None if applied is not None else precision)
    if options.lora is not None:
        check_lora(options.lora)
    sizes = parts_bytes(outline)
    worker = make_worker(exporter, sizes, options.memory_limit_bytes)
    _check_room(sizes, out, options)
    origin = source_facts(pipeline_path, options.lora)
    source = origin["hash"]
    job = _Job(
        exporter=exporter,
        worker=worker,
        precision=precision,
        prompts=parity_prompts,
        origin={**origin, "pipeline": type(outline).__name__},
        key=options.key or export_key(exporter, source, precision, parity_prompts, options),
        options=options,
        progress=progress,
        applied=applied,
    )
    # An earlier export stays if this one fails: it passed its own gates.
    with disk_errors(out), atomic_folder(out) as folder:
        _write_whole(job, pipeline_path, outline, folder, started)
    return ExportedPipeline(out, job.key, exporter.name, precision)


def check_capabilities(exporter: Exporter, pipeline: Any, precision: str | None) -> None:
    """Hold a pipeline against what an exporter declares.

    Args:
        pipeline: diffusers pipeline; its weights are not looked at.
        precision: None: that of a recipe, which was checked by itself.

    Raises:
        InputError: a precision or a VAE that the exporter does not take.
    """
    if precision is not None and precision not in exporter.precisions:
        raise InputError(
            f"the precision of `{exporter.name}` must be one of {', '.join(exporter.precisions)}",
            repr(precision),
        )
    if is_tiny(pipeline.vae) and not exporter.accepts_tiny_decoder:
        raise InputError(
            f"the VAE must be an AutoencoderKL, clients of `{exporter.name}` know no other",
            type(pipeline.vae).__name__,
        )


@dataclass(frozen=True)
class _Job:
    """What stays the same for all parts of one export."""

    exporter: Exporter
    worker: Worker
    precision: str
    prompts: list[str]
    origin: dict[str, Any]
    key: str
    options: ExportOptions
    progress: Progress
    applied: AppliedRecipe | None


def _write_whole(
    job: _Job, pipeline_path: Path, outline: Any, folder: Path, started: float
) -> None:
    exporter = job.exporter
    scheduler = type(outline.scheduler).__name__
    warning = scheduler_warning(scheduler, job.options.schedulers or exporter.schedulers)
    if warning:
        job.progress.info(f"  warning: {warning}")
    _write_shared_parts(outline, pipeline_path, folder)
    if isinstance(exporter, WritesClientFiles):
        exporter.write_client_files(folder)
    work = folder / ".work"
    source, trajectory = _fuse(job, pipeline_path, work), work / "trajectory"
    _record(job, source, trajectory)
    orders = _part_orders(job, source, trajectory, folder, component_names(outline))
    components = _convert_all(job, orders)
    pictures = _draw(job, trajectory, folder)
    shutil.rmtree(work)
    quantization = job.applied.save(folder) if job.applied is not None else None
    write_manifest(
        folder,
        runtime=exporter.name,
        precision=job.precision,
        reproducible=job.precision not in exporter.varying,
        key=job.key,
        source=job.origin,
        scheduler=scheduler,
        warning=warning,
        shapes=_shapes(exporter, outline),
        components=components,
        pictures=pictures,
        generation=job.options.generation,
        exporter_facts=exporter.facts(),
        seconds=time.monotonic() - started,
        quantization=quantization,
        memory={
            "peak_rss_bytes": job.worker.peak_rss_bytes,
            "isolated": job.worker.isolated,
            "limit_bytes": job.options.memory_limit_bytes,
        },
    )
    finish(folder, job.key, runtime=exporter.name, precision=job.precision)


def _fuse(job: _Job, pipeline_path: Path, work: Path) -> Path:
    """The pipeline folder to export: the source, or a copy with the LoRA in it."""
    lora = job.options.lora
    if lora is None:
        return pipeline_path
    job.progress.info(f"  fusing {lora.name}")
    fused = work / "fused"
    job.worker.run(fuse, FuseOrder(pipeline_path, lora, fused))
    return fused


def _record(job: _Job, source: Path, trajectory: Path) -> None:
    """Put the recordings where the steps look for them."""
    if job.options.trajectory is not None:
        save_trajectory(job.options.trajectory, trajectory)
        return
    job.progress.info("  recording the parts' inputs along a denoising trajectory")
    order = RecordOrder(source, trajectory, job.prompts, job.options.generation)
    job.worker.run(record, order)


def _part_orders(
    job: _Job, source: Path, trajectory: Path, folder: Path, names: tuple[str, ...]
) -> list[PartOrder]:
    base = usable_base(job.exporter, job.options.base, job.origin["hash"])
    return [
        PartOrder(
            source,
            trajectory,
            folder,
            job.precision,
            name,
            job.exporter.component_floor(name, job.precision),
            base,
            None if job.applied is None else job.applied.part(name),
        )
        for name in names
    ]


def _convert_all(job: _Job, orders: list[PartOrder]) -> dict[str, ComponentFacts]:
    """Convert and check part by part."""
    facts = {}
    with job.progress.track(f"export {job.precision}", len(orders)) as advance:
        for order in orders:
            name, started = order.component, time.monotonic()
            part, before = _float32_first(job, order)
            converted = job.worker.run(convert, part)
            checked = job.worker.run(check, part)
            peaks = (before, converted.peak_rss_bytes, checked.peak_rss_bytes)
            facts[name] = ComponentFacts(
                precision=job.precision,
                parity=checked.result,
                bytes=folder_bytes(order.folder / name),
                seconds=round(time.monotonic() - started, 2),
                peak_rss_bytes=max(peaks),
                details=converted.result,
            )
            job.progress.info(f"  {job.precision} {name}: {facts[name].summary()}")
            advance(1)
    return facts


def _float32_first(job: _Job, part: PartOrder) -> tuple[PartOrder, int]:
    """Give a large part without a base one, by a step of its own; its peak memory, else 0.

    Torch's weights and those of another precision are then never in memory together.
    """
    wanted = job.worker.isolated and is_made_of_files(job.exporter, part)
    if part.base is not None or not wanted:
        return part, 0
    base = part.trajectory.with_name("base")
    first = replace(part, precision=job.exporter.precisions[0], folder=base)
    done = job.worker.run(convert, first)
    return replace(part, base=base), done.peak_rss_bytes


def _draw(job: _Job, trajectory: Path, folder: Path) -> PictureParity:
    floor = job.exporter.picture_floor(job.precision)
    order = DrawOrder(trajectory, folder, job.precision, floor)
    pictures = job.worker.run(draw, order).result
    job.progress.info(
        f"  {job.precision} pictures: {pictures.psnr_db:.1f} dB (floor {pictures.floor_db:g})"
    )
    return pictures


def usable_base(exporter: Exporter, base: Path | None, source: str) -> Path | None:
    """The base, unless it is of another source or was made by other versions."""
    if base is None:
        return None
    manifest = read_manifest(base)
    wanted = {
        "runtime": exporter.name,
        "precision": exporter.precisions[0],
        "source": source,
        "versions": all_versions(exporter.facts()),
    }
    found = {**manifest, "source": manifest["source"]["hash"]}
    return base if all(found[name] == value for name, value in wanted.items()) else None


def _shapes(exporter: Exporter, pipeline: Any) -> dict[str, Any]:
    """What clients may ask for: batch, and picture sides in pixels."""
    scale = vae_scale_factor(pipeline)
    return {
        "dynamic": exporter.dynamic_shapes,
        "native": [side * scale for side in latent_size(pipeline)],
        "multiple": picture_multiple(pipeline),
    }


def _write_shared_parts(pipeline: Any, pipeline_path: Path, folder: Path) -> None:
    """Tokenizers, scheduler and index, as diffusers writes them."""
    for name in ("tokenizer", "tokenizer_2"):
        tokenizer = getattr(pipeline, name, None)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder / name)
    pipeline.scheduler.save_pretrained(folder / "scheduler")
    index = read_json(pipeline_path / "model_index.json")
    absent = ("feature_extractor", "image_encoder", "safety_checker")
    index |= {name: [None, None] for name in absent if name in index}
    index.pop("_name_or_path", None)
    if "requires_safety_checker" in index:
        index["requires_safety_checker"] = False
    write_json(folder / "model_index.json", index)


def parts_bytes(pipeline: Any) -> dict[str, int]:
    """Size of each model of a pipeline in float32, weights loaded or not."""
    attributes = dict.fromkeys(PIPELINE_ATTRIBUTES[name] for name in component_names(pipeline))
    return {
        name: 4 * sum(tensor.numel() for tensor in getattr(pipeline, name).parameters())
        for name in attributes
    }


def _check_room(sizes: dict[str, int], out: Path, options: ExportOptions) -> None:
    """A large model is converted for minutes: say before it, not after it, that it will not fit."""
    whole = sum(sizes.values())
    # All parts in float32, the scratch of the largest, and the copy that a LoRA is fused into.
    needed = whole + max(sizes.values()) + (whole if options.lora is not None else 0)
    place = next(folder for folder in (out, *out.resolve().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise InputError(
            f"the disk of the export folder must have {needed / 1e6:.0f} MB free",
            f"{free / 1e6:.0f} MB at {place}",
            "Free some space or pass another --out.",
        )
