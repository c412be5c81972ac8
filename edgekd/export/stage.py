"""The export stage: every precision of a target, each in its own folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekd.artifacts import ExportedPipeline
from edgekd.errors import EdgekdError, InputError
from edgekd.export.isolate import make_worker
from edgekd.export.keys import export_key
from edgekd.export.outline import parts_bytes
from edgekd.export.protocol import Exporter, ExportOptions, Generation
from edgekd.export.record import Trajectory
from edgekd.export.registry import get_exporter
from edgekd.export.steps import RecordOrder, record
from edgekd.export.trajectory_files import load_trajectory
from edgekd.folders import finished
from edgekd.processes.scratch import scratch_folder
from edgekd.progress import Progress
from edgekd.recipe import ExportSection
from edgekd.target import Target


def chosen_precisions(target: Target, section: ExportSection) -> list[str]:
    """The precisions to export, in the target's order.

    Raises:
        InputError: the recipe asks for one that the target does not list.
    """
    unknown = [name for name in section.precisions if name not in target.precisions]
    if unknown:
        raise InputError(
            f"`export.precisions` must be among those of target `{target.name}` "
            f"({', '.join(target.precisions)})",
            ", ".join(unknown),
        )
    return [name for name in target.precisions if name in (section.precisions or target.precisions)]


def record_trajectory(
    exporter: Exporter, pipeline_path: Path, options: ExportOptions
) -> Trajectory:
    """Record a pipeline once for several exports, in a child process where it is large."""
    from edgekd.diffusion.load import load_pipeline

    sizes = parts_bytes(load_pipeline(pipeline_path, only=()))
    worker = make_worker(exporter, sizes, limit_bytes=None)
    with scratch_folder() as folder:
        worker.run(record, RecordOrder(pipeline_path, folder, options.prompts, options.generation))
        return load_trajectory(folder)


@dataclass(frozen=True)
class ExportPlan:
    """What a pipeline is exported to.

    Attributes:
        prompts: parity prompts; `section.parity_prompts` of them are used.
        generation: recommended steps and guidance, stored in the manifests.
    """

    target: Target
    section: ExportSection
    prompts: list[str]
    generation: Generation = field(default_factory=Generation)

    def options(self) -> ExportOptions:
        used = tuple(self.prompts[: self.section.parity_prompts])
        return ExportOptions(used, self.generation, tuple(self.target.schedulers))


def export_all(
    pipeline_path: Path, plan: ExportPlan, out: Path, key: str, progress: Progress
) -> dict[str, ExportedPipeline]:
    """Export a pipeline for a target, to `out/<precision>/`.

    Args:
        key: content hash of the stage's inputs. A precision that is finished under it is kept.

    Raises:
        InputError: see `Exporter.export`.
        GateError: a precision is below its parity floor.
    """
    exported = {}
    for precision, found in export_each(pipeline_path, plan, out, key, progress):
        if isinstance(found, EdgekdError):
            raise found
        exported[precision] = found
    return exported


def export_each(
    pipeline_path: Path, plan: ExportPlan, out: Path, key: str, progress: Progress
) -> Iterator[tuple[str, ExportedPipeline | EdgekdError]]:
    """As `export_all`, one precision after the other, with the error in place of a failed one.

    Raises:
        InputError: a precision that the target does not list.
    """
    exporter = get_exporter(plan.target.runtime)
    options = plan.options()
    exported: dict[str, ExportedPipeline] = {}
    for precision in chosen_precisions(plan.target, plan.section):
        own_key = export_key(exporter, key, precision, plan.options())
        folder = out / precision
        if finished(folder, own_key, progress.info) is not None:
            exported[precision] = ExportedPipeline(folder, own_key, exporter.name, precision)
            yield precision, exported[precision]
            continue
        first = exported.get(exporter.precisions[0])
        base = first.path if first is not None else None
        try:
            if options.trajectory is None:
                progress.info("  recording the parts' inputs along a denoising trajectory")
                trajectory = record_trajectory(exporter, pipeline_path, options)
                options = replace(options, trajectory=trajectory)
            own = replace(options, key=own_key, base=base)
            exported[precision] = exporter.export(pipeline_path, folder, precision, progress, own)
        except EdgekdError as error:
            yield precision, error
        else:
            yield precision, exported[precision]
