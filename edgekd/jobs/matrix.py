"""The rows of the main job's report: both models in torch and in every exported precision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgekd.artifacts import ExportedPipeline, StudentCheckpoint
from edgekd.jobs.plan import Plan

if TYPE_CHECKING:
    from edgekd.benchmark.cases import Case


def matrix(
    plan: Plan, student: StudentCheckpoint, exports: dict[str, dict[str, ExportedPipeline]]
) -> tuple[Case, ...]:
    """Every row of a model draws as its diffusers folder does: what differs between them is then
    what the export does."""
    from edgekd.benchmark.cases import TORCH, Case
    from edgekd.benchmark.generation import row_generation

    sources: dict[Literal["teacher", "student"], Path] = {
        "teacher": plan.teacher.path,
        "student": student.path,
    }
    evaluated = not_executed_here(plan.target.runtime)
    rows = []
    for role, source in sources.items():
        generation = row_generation(source, plan.suite.generation)
        name = f"{role} torch fp32"
        rows.append(Case(name, role, TORCH, "fp32", source, model=role, generation=generation))
        for precision, exported in exports[role].items():
            rows.append(
                Case(
                    f"{role} {exported.runtime} {precision}",
                    role,
                    exported.runtime,
                    precision,
                    exported.path,
                    source,
                    evaluated=evaluated,
                    model=role,
                    generation=generation,
                )
            )
    return tuple(rows)


def student_case(name: str, path: Path) -> Case:
    """The row of a student's folder: diffusers', or an export in the runtime that it is for.

    Raises:
        InputError: it is neither.
    """
    from edgekd.benchmark.cases import TORCH, Case
    from edgekd.benchmark.generation import MANIFEST
    from edgekd.diffusion.validate import inspect_folder
    from edgekd.runtime.folder import read_folder

    if not (path / MANIFEST).is_file():
        inspect_folder(path)
        return Case(name, "student", TORCH, "fp32", path)
    export = read_folder(path)
    evaluated = not_executed_here(export.runtime)
    return Case(name, "student", export.runtime, export.precision, path, evaluated=evaluated)


def not_executed_here(runtime: str) -> str:
    """Why this machine cannot execute a runtime, only evaluate its exports; else empty."""
    from edgekd.export.protocol import MayOnlyEvaluate
    from edgekd.export.registry import get_exporter

    exporter = get_exporter(runtime)
    return exporter.not_executed_here() if isinstance(exporter, MayOnlyEvaluate) else ""
