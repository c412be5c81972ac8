"""The procedure that all exporters share: record, convert part by part, prove, write whole."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekd.artifacts import ExportedPipeline
from edgekd.export.bits.apply import AppliedRecipe, apply_recipe
from edgekd.export.card import export_card
from edgekd.export.checks import check_capabilities, check_room
from edgekd.export.isolate import ExportWorker, make_worker
from edgekd.export.keys import export_key, usable_base
from edgekd.export.lora import check_loras
from edgekd.export.manifest import (
    ComponentFacts,
    Manifest,
    MemoryFacts,
    Origin,
    all_versions,
    content_hash,
    folder_bytes,
    runtime_warning,
    scheduler_warning,
    trace_origin,
    write_manifest,
)
from edgekd.export.outline import component_names, parts_bytes, shapes
from edgekd.export.picture_parity import PictureParity
from edgekd.export.protocol import (
    Exporter,
    ExportOptions,
    Floor,
    KnowsItsClients,
    WritesClientFiles,
)
from edgekd.export.shared_files import write_shared_files
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
from edgekd.file_record import finish
from edgekd.files import check_writable, writing
from edgekd.folders import atomic_folder, check_replaceable
from edgekd.model_card import write_card
from edgekd.progress import Progress
from edgekd.runtime.folder import FORMAT


def export_pipeline(
    exporter: Exporter,
    pipeline_path: Path,
    out: Path,
    precision: str,
    progress: Progress,
    options: ExportOptions,
) -> ExportedPipeline:
    """Export one precision of a pipeline: `Exporter.export` of every exporter here.

    The pipeline's parts are converted one at a time, the U-Net last; `edgekd.export.isolate` says
    in which process. All that can be checked without weights is checked first.
    """
    from edgekd.diffusion.load import load_pipeline
    from edgekd.diffusion.scheduler_rules import check_steps

    started = time.monotonic()
    # What is damaged in the folder of a stage, which has a key, is set aside and made again.
    if options.key is None:
        check_replaceable(out)
    check_writable(out)
    outline = load_pipeline(pipeline_path, only=())
    applied = None
    if options.quantization is not None:
        applied = apply_recipe(exporter, outline, options.quantization, precision)
    check_steps(outline.scheduler, options.generation.steps)
    check_capabilities(exporter, outline, None if applied is not None else precision)
    check_loras(options.loras)
    sizes = parts_bytes(outline)
    worker = make_worker(exporter, sizes, options.memory_limit_bytes)
    check_room(sizes, out, options)
    origin = trace_origin(pipeline_path, options.loras, type(outline).__name__)
    job = _Job(
        source=pipeline_path,
        outline=outline,
        started=started,
        exporter=exporter,
        worker=worker,
        precision=precision,
        origin=origin,
        key=options.key or export_key(exporter, origin.hash, precision, options),
        options=options,
        progress=progress,
        applied=applied,
    )
    # An earlier export stays if this one fails: it passed its own gates.
    with writing(out), atomic_folder(out) as folder:
        _write_whole(job, folder)
    return ExportedPipeline(out, job.key, exporter.name, precision)


@dataclass(frozen=True)
class _Job:
    """What stays the same for all parts of one export.

    Attributes:
        source: the pipeline's folder.
        outline: the pipeline without its weights.
        started: by the monotonic clock.
    """

    source: Path
    outline: Any
    started: float
    exporter: Exporter
    worker: ExportWorker
    precision: str
    origin: Origin
    key: str
    options: ExportOptions
    progress: Progress
    applied: AppliedRecipe | None

    @property
    def warning(self) -> str | None:
        name = type(self.outline.scheduler).__name__
        config = {**self.outline.scheduler.config, "_class_name": name}
        known = self.options.schedulers or self.exporter.schedulers
        said = [scheduler_warning(name, known), runtime_warning(config)]
        if isinstance(self.exporter, KnowsItsClients):
            said.append(self.exporter.drawing_warning(config, self.options.generation.steps))
        return "; ".join(one for one in said if one) or None


def _write_whole(job: _Job, folder: Path) -> None:
    if job.warning:
        job.progress.info(f"  warning: {job.warning}")
    write_shared_files(job.outline, job.source, folder)
    if isinstance(job.exporter, WritesClientFiles):
        job.exporter.write_client_files(folder)
    work = folder / ".work"
    source, trajectory = _fuse(job, work), work / "trajectory"
    _record(job, source, trajectory)
    components = _convert_all(job, _part_orders(job, source, trajectory, folder))
    pictures = _draw(job, trajectory, folder)
    shutil.rmtree(work)
    write_card(folder, export_card(job.source, job.exporter, job.precision, job.options.generation))
    write_manifest(folder, _manifest(job, folder, components, pictures))
    finish(folder, job.key, runtime=job.exporter.name, precision=job.precision)


def _manifest(
    job: _Job, folder: Path, components: dict[str, ComponentFacts], pictures: PictureParity
) -> Manifest:
    """The manifest of a folder whose other files are all there but a recipe's own."""
    recipe = job.applied.save(folder) if job.applied is not None else None
    memory = MemoryFacts(
        peak_rss_bytes=job.worker.peak_rss_bytes,
        isolated=job.worker.isolated,
        limit_bytes=job.options.memory_limit_bytes,
    )
    return Manifest.model_validate(
        {
            "format": FORMAT,
            "runtime": job.exporter.name,
            "precision": job.precision,
            "key": job.key,
            "content_hash": content_hash(folder),
            "reproducible": job.precision not in job.exporter.varying,
            "source": job.origin,
            "scheduler": type(job.outline.scheduler).__name__,
            "warning": job.warning,
            "shapes": shapes(job.outline, job.exporter.dynamic_shapes),
            "recommended": job.options.generation,
            "components": components,
            "pictures": pictures,
            "bytes": folder_bytes(folder),
            "seconds": round(time.monotonic() - job.started, 2),
            "memory": memory,
            "quantization": recipe,
            **job.exporter.facts(),
            "versions": all_versions(job.exporter.runtime),
        }
    )


def _fuse(job: _Job, work: Path) -> Path:
    """The pipeline folder to export: the source, or a copy with the LoRAs in it."""
    loras = job.options.loras
    if not loras:
        return job.source
    for lora in loras:
        job.progress.info(f"  fusing {lora.path.name}, weight {lora.weight:g}")
    fused = work / "fused"
    job.worker.run(fuse, FuseOrder(job.source, loras, fused))
    return fused


def _record(job: _Job, source: Path, trajectory: Path) -> None:
    """Put the recordings where the steps look for them."""
    if job.options.trajectory is not None:
        save_trajectory(job.options.trajectory, trajectory)
        return
    job.progress.info("  recording the parts' inputs along a denoising trajectory")
    order = RecordOrder(source, trajectory, job.options.prompts, job.options.generation)
    job.worker.run(record, order)


def _part_orders(job: _Job, source: Path, trajectory: Path, folder: Path) -> list[PartOrder]:
    base = usable_base(job.exporter, job.options.base, job.origin.hash)
    floors = job.exporter.floors(job.precision)
    return [
        PartOrder(
            source,
            trajectory,
            folder,
            job.precision,
            name,
            floors.component(name),
            base,
            None if job.applied is None else job.applied.part(name),
        )
        for name in component_names(job.outline)
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
            facts[name] = ComponentFacts.model_validate(
                {
                    **converted.result,
                    "precision": job.precision,
                    "parity": checked.result,
                    "bytes": folder_bytes(order.folder / name),
                    "seconds": round(time.monotonic() - started, 2),
                    "peak_rss_bytes": max(before, converted.peak_rss_bytes, checked.peak_rss_bytes),
                }
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
    floor, asked = job.exporter.floors(job.precision).picture, job.options.min_psnr_db
    if asked is not None:
        floor = Floor(asked, "`--min-psnr` asks for it")
    order = DrawOrder(trajectory, folder, job.precision, floor)
    pictures = job.worker.run(draw, order).result
    job.progress.info(
        f"  {job.precision} pictures: {pictures.psnr_db:.1f} dB (floor {pictures.floor_db:g})"
    )
    return pictures
