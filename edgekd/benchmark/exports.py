"""What exports cost: a pipeline of a published size with random weights, in every precision."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from edgekd.benchmark.random_pipeline import make_pipeline
from edgekd.benchmark.suite import ExportSuite
from edgekd.errors import EdgekdError, InputError
from edgekd.export.manifest import ComponentFacts, read_manifest
from edgekd.export.protocol import ExportOptions, Generation
from edgekd.export.registry import get_exporter
from edgekd.export.stage import record_trajectory
from edgekd.files import write_json
from edgekd.folders import temporary_folder
from edgekd.measure.environment import environment
from edgekd.processes.child import Child
from edgekd.progress import Progress
from edgekd.report.schema import Environment
from edgekd.schema import Section
from edgekd.target import Target

REPORT_FILE = "export.json"
_COLUMNS = ("target", "precision", "seconds", "peak GB", "of U-Net", "MB", "U-Net dB", "picture dB")


class FailedExport(Section):
    """An export that failed a gate, and why."""

    target: str
    precision: str
    record_seconds: float
    error: str


class ExportCost(Section):
    """What one export took.

    Attributes:
        seconds: without the recording, which the precisions of a target share.
        peak_rss_bytes: of all processes together; `peak_to_unet`: over the U-Net's float32 bytes.
        components: as in the manifest.
    """

    target: str
    precision: str
    record_seconds: float
    seconds: float
    peak_rss_bytes: int
    peak_to_unet: float
    bytes: int
    pictures_psnr_db: float
    components: dict[str, ComponentFacts]


class ExportCosts(Section):
    """`export.json`."""

    suite: str
    architecture: str
    unet_fp32_bytes: int
    rows: list[ExportCost | FailedExport]
    environment: Environment


def choose_targets(suite: ExportSuite, targets: list[Target]) -> dict[str, list[str]]:
    """Target name -> precisions, in the order of export: the suite's, else the target's.

    Raises:
        InputError: a precision that the runtime does not have, or a runtime that is not installed.
    """
    chosen = {}
    for target in targets:
        wanted = suite.targets.get(target.name) or target.precisions
        known = get_exporter(target.runtime).precisions
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise InputError(
                f"precisions of `{target.runtime}` are {', '.join(known)}", ", ".join(unknown)
            )
        chosen[target.name] = [name for name in known if name in wanted]
    return chosen


def benchmark_exports(
    suite: ExportSuite, targets: list[Target], out: Path, progress: Progress
) -> ExportCosts:
    """Export a random pipeline for each target in each precision.

    The pipeline and its exports are deleted; `export.json` stays.

    Args:
        out: folder for the report, and for all the rest while it is worked on.
    """
    chosen = choose_targets(suite, targets)
    with temporary_folder(out / "exports") as work:
        source = work / "source"
        progress.info(f"making a {suite.architecture} pipeline with random weights")
        with Child("make a pipeline with random weights") as child:  # its memory is returned
            child.call(make_pipeline, suite.architecture, suite.seed, source)
        unet_bytes = sum(file.stat().st_size for file in source.glob("unet/*.safetensors"))
        rows = []
        for target in targets:
            order = _Order(target, chosen[target.name], source, work)
            rows += _rows(suite, order, unet_bytes, progress)
    report = ExportCosts(
        suite=suite.name,
        architecture=suite.architecture,
        unet_fp32_bytes=unet_bytes,
        rows=rows,
        environment=Environment.model_validate(environment()),
    )
    write_json(out / REPORT_FILE, report.model_dump(mode="json"))
    return report


@dataclass(frozen=True)
class _Order:
    """One target's exports of the pipeline in `source`, in subfolders of `work`."""

    target: Target
    precisions: list[str]
    source: Path
    work: Path


def _rows(
    suite: ExportSuite, order: _Order, unet_bytes: int, progress: Progress
) -> list[ExportCost | FailedExport]:
    target, source = order.target, order.source
    exporter = get_exporter(target.runtime)
    generation = Generation(suite.steps, suite.guidance_scale)
    progress.info(f"[{target.name}] recording")
    started = time.monotonic()
    options = ExportOptions(tuple(suite.prompts), generation, tuple(target.schedulers))
    options = replace(options, trajectory=record_trajectory(exporter, source, options))
    record_seconds = round(time.monotonic() - started, 2)
    rows: list[ExportCost | FailedExport] = []
    base = None
    for precision in order.precisions:
        progress.info(f"[{target.name}] {precision}")
        out = order.work / target.name / precision
        try:
            exporter.export(source, out, precision, progress, replace(options, base=base))
        except EdgekdError as error:
            progress.info(f"  {error}")
            rows.append(
                FailedExport(
                    target=target.name,
                    precision=precision,
                    record_seconds=record_seconds,
                    error=str(error),
                )
            )
            continue
        manifest = read_manifest(out)
        peak = manifest.memory.peak_rss_bytes
        rows.append(
            ExportCost(
                target=target.name,
                precision=precision,
                record_seconds=record_seconds,
                seconds=manifest.seconds,
                peak_rss_bytes=peak,
                peak_to_unet=round(peak / unet_bytes, 2),
                bytes=manifest.bytes,
                pictures_psnr_db=manifest.pictures.psnr_db,
                components=manifest.components,
            )
        )
        if precision == exporter.precisions[0]:
            base = out
        else:
            shutil.rmtree(out)
    return rows


def table(report: ExportCosts) -> list[str]:
    """The report's rows as lines of text."""
    lines = ["".join(f"{name:>12}" for name in _COLUMNS)]
    for row in report.rows:
        place = f"{row.target:>12}{row.precision:>12}"
        if isinstance(row, FailedExport):
            lines.append(f"{place}  {row.error}")
            continue
        unet = row.components["unet"].parity.snr_db
        lines.append(
            f"{place}{row.seconds:>12.1f}{row.peak_rss_bytes / 1e9:>12.2f}"
            f"{row.peak_to_unet:>11.2f}x{row.bytes / 1e6:>12.1f}{unet:>12.1f}"
            f"{row.pictures_psnr_db:>12.1f}"
        )
    return lines
