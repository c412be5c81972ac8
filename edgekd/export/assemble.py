"""The procedure that all exporters share: record, convert part by part, prove, write whole."""

from __future__ import annotations

import contextlib
import errno
import gc
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
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
from edgekd.errors import GateError, InputError
from edgekd.export.capture import (
    PIPELINE_ATTRIBUTES,
    capture,
    component_names,
    latent_size,
    picture_multiple,
    vae_scale_factor,
)
from edgekd.export.manifest import (
    MANIFEST_FILE,
    ComponentFacts,
    all_versions,
    find_licence,
    folder_bytes,
    read_manifest,
    scheduler_warning,
    source_hash,
    versions,
    write_manifest,
)
from edgekd.export.parity import (
    ComponentParity,
    check_component,
    check_pictures,
    load_for_parity,
    open_component,
    record_for_parity,
)
from edgekd.export.protocol import Exporter, ExportOptions
from edgekd.export.record import Trajectory
from edgekd.progress import Progress

# What the user can do something about; every other OSError is a defect.
_DISK_PROBLEMS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOTDIR}


def export_key(
    exporter: Exporter,
    pipeline_path: Path,
    precision: str,
    prompts: list[str],
    options: ExportOptions,
) -> str:
    """Content hash of everything that an export depends on."""
    return hash_value(
        {
            "source": source_hash(pipeline_path),
            "runtime": exporter.name,
            "precision": precision,
            "prompts": prompts,
            "generation": asdict(options.generation),
            "versions": versions(),
            "exporter": exporter.facts(),
        }
    )


def export_pipeline(
    exporter: Exporter,
    pipeline_path: Path,
    out: Path,
    precision: str,
    prompts: list[str],
    progress: Progress,
    options: ExportOptions,
) -> ExportedPipeline:
    """Export one precision of a pipeline; see `Exporter.export`.

    The pipeline's parts are converted one at a time and released, the U-Net last.
    """
    from edgekd.teacher.load import load_pipeline

    if precision not in exporter.precisions:
        raise InputError(
            f"the precision of `{exporter.name}` must be one of {', '.join(exporter.precisions)}",
            repr(precision),
        )
    _check_out(out)
    started = time.monotonic()
    pipeline = load_pipeline(pipeline_path)
    _check_room(pipeline, out)
    job = _Job(
        exporter=exporter,
        precision=precision,
        source=source_hash(pipeline_path),
        key=options.key or export_key(exporter, pipeline_path, precision, prompts, options),
        trajectory=options.trajectory or record_for_parity(pipeline, prompts, options.generation),
        options=options,
        progress=progress,
    )
    try:
        with disk_problems(out), atomic_folder(out) as folder:
            _write_whole(job, pipeline_path, pipeline, folder, started)
    except GateError:
        # An older export beside a failed one would be taken for it.
        shutil.rmtree(out, ignore_errors=True)
        raise
    return ExportedPipeline(out, job.key, exporter.name, precision)


@dataclass(frozen=True)
class _Job:
    """What stays the same for all parts of one export."""

    exporter: Exporter
    precision: str
    source: str
    key: str
    trajectory: Trajectory
    options: ExportOptions
    progress: Progress


def _write_whole(
    job: _Job, pipeline_path: Path, pipeline: Any, folder: Path, started: float
) -> None:
    exporter = job.exporter
    scheduler = type(pipeline.scheduler).__name__
    warning = scheduler_warning(scheduler, job.options.schedulers or exporter.schedulers)
    if warning:
        job.progress.info(f"  warning: {warning}")
    _write_shared_parts(pipeline, pipeline_path, folder)
    shapes = _shapes(exporter, pipeline)
    components = _convert_all(job, pipeline, folder)
    pictures = check_pictures(
        load_for_parity(exporter, folder),
        job.precision,
        job.trajectory,
        exporter.picture_floor(job.precision),
    )
    job.progress.info(
        f"  {job.precision} pictures: {pictures.psnr_db:.1f} dB (floor {pictures.floor_db:g})"
    )
    write_manifest(
        folder,
        runtime=exporter.name,
        precision=job.precision,
        key=job.key,
        source={
            "hash": job.source,
            "pipeline": type(pipeline).__name__,
            "licence": find_licence(pipeline_path),
        },
        scheduler=scheduler,
        warning=warning,
        shapes=shapes,
        components=components,
        pictures=pictures,
        generation=job.options.generation,
        exporter_facts=exporter.facts(),
        seconds=time.monotonic() - started,
    )
    finish(folder, job.key, runtime=exporter.name, precision=job.precision)


def _convert_all(job: _Job, pipeline: Any, folder: Path) -> dict[str, ComponentFacts]:
    """Convert and check part by part; a part is released as soon as it is converted."""
    names = component_names(pipeline)
    base = usable_base(job.exporter, job.options.base, job.source)
    facts = {}
    with job.progress.track(f"export {job.precision}", len(names)) as advance:
        for index, name in enumerate(names):
            started = time.monotonic()
            details = job.exporter.convert(
                capture(pipeline, name),
                folder / name,
                job.precision,
                job.trajectory.recordings[name],
                base / name if base is not None else None,
            )
            attribute = PIPELINE_ATTRIBUTES[name]
            if all(PIPELINE_ATTRIBUTES[later] != attribute for later in names[index + 1 :]):
                _release(pipeline, attribute)
            parity = _check(job, folder, name)
            seconds = round(time.monotonic() - started, 2)
            size = folder_bytes(folder / name)
            facts[name] = ComponentFacts(job.precision, parity, size, seconds, details)
            job.progress.info(
                f"  {job.precision} {name}: {parity.snr_db:.1f} dB (floor {parity.floor_db:g}), "
                f"{size / 1e6:.1f} MB, {seconds:.1f} s"
            )
            advance(1)
    return facts


def _check(job: _Job, folder: Path, name: str) -> ComponentParity:
    return check_component(
        name,
        job.precision,
        open_component(job.exporter, folder, name),
        job.trajectory.recordings[name],
        job.exporter.component_floor(name, job.precision),
    )


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


def _release(pipeline: Any, attribute: str) -> None:
    setattr(pipeline, attribute, None)
    gc.collect()


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


def _check_out(out: Path) -> None:
    """Only an earlier export may be replaced."""
    replaceable = not out.exists() or (
        out.is_dir() and ((out / MANIFEST_FILE).is_file() or not any(out.iterdir()))
    )
    if not replaceable:
        raise InputError(
            "the export folder must be new, empty, or an earlier export",
            str(out),
            "Pass another --out.",
        )


def _check_room(pipeline: Any, out: Path) -> None:
    """A large model is converted for minutes: say before it, not after it, that it will not fit."""
    parts = [getattr(pipeline, PIPELINE_ATTRIBUTES[name]) for name in component_names(pipeline)]
    sizes = [4 * sum(tensor.numel() for tensor in part.parameters()) for part in parts]
    needed = sum(sizes) + max(sizes)  # all parts in float32, and the scratch of the largest
    place = next(folder for folder in (out, *out.resolve().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise InputError(
            f"the disk of the export folder must have {needed / 1e6:.0f} MB free",
            f"{free / 1e6:.0f} MB at {place}",
            "Free some space or pass another --out.",
        )


@contextlib.contextmanager
def disk_problems(out: Path) -> Iterator[None]:
    """Turn a full or closed disk into one line.

    Raises:
        InputError: no space, no quota, or no permission.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_PROBLEMS:
            raise
        raise InputError(
            "the export folder must be writable and its disk must have room",
            f"{out} ({error.strerror})",
            "Free some space or pass another --out.",
        ) from None
