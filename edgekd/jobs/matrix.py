"""The rows of a report: each model in torch and in every exported precision, as each draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekd.artifacts import ExportedPipeline, StudentCheckpoint
from edgekd.errors import EdgekdError, InputError
from edgekd.files import code_key, hash_value
from edgekd.jobs.models import Model
from edgekd.jobs.plan import Plan
from edgekd.progress import Progress
from edgekd.target import Target, load_target

if TYPE_CHECKING:
    from edgekd.benchmark.cases import Case
    from edgekd.benchmark.suite import Suite
    from edgekd.recipe import ExportSection


@dataclass(frozen=True)
class Export:
    """A model in one precision of one target.

    Attributes:
        path: where it is, or would be.
        failed: why it is not there; empty: it is.
    """

    target: Target
    precision: str
    path: Path
    failed: str = ""


def matrix(
    plan: Plan, student: StudentCheckpoint, exports: dict[str, dict[str, ExportedPipeline]]
) -> tuple[Case, ...]:
    """Every row of the main job. All of a model draw as its diffusers folder does: what differs
    between them is then what the export does."""
    from edgekd.benchmark.generation import row_generation

    models = (
        Model("teacher", "teacher", plan.teacher.path, plan.teacher.key),
        Model("student", "student", student.path, student.key),
    )
    rows: list[Case] = []
    for model in models:
        generation = row_generation(model.path, plan.suite.generation)
        cases = [torch_case(model)]
        for precision, exported in exports[model.name].items():
            made = Export(plan.target, precision, exported.path)
            cases.append(export_case(model, made, exported.runtime))
        rows += [replace(case, generation=generation) for case in cases]
    return tuple(rows)


def torch_case(model: Model) -> Case:
    from edgekd.benchmark.cases import TORCH, Case

    name = f"{model.name} torch fp32"
    return Case(name, model.role, TORCH, "fp32", model.path, model=model.name)


def export_case(model: Model, export: Export, place: str) -> Case:
    """The row of a model's export.

    Args:
        place: what the row is called after: the runtime, or the target where several share one.
    """
    from edgekd.benchmark.cases import Case

    runtime = export.target.runtime
    return Case(
        f"{model.name} {place} {export.precision}",
        model.role,
        runtime,
        export.precision,
        export.path,
        source=model.path,
        evaluated=not_executed_here(runtime),
        failed=export.failed,
        model=model.name,
        target=export.target.name,
    )


def folder_case(model: Model) -> Case:
    """The row of a folder as it was given: diffusers', or an export in the runtime it is for.

    Raises:
        InputError: the export cannot be read.
    """
    from edgekd.benchmark.cases import Case
    from edgekd.runtime.folder import read_folder

    if not model.exported:
        return torch_case(model)
    export = read_folder(model.path)
    return Case(
        f"{model.name} {export.runtime} {export.precision}",
        model.role,
        export.runtime,
        export.precision,
        model.path,
        evaluated=not_executed_here(export.runtime),
        model=model.name,
    )


def not_executed_here(runtime: str) -> str:
    """Why this machine cannot execute a runtime, only evaluate its exports; else empty."""
    from edgekd.export.protocol import MayOnlyEvaluate
    from edgekd.export.registry import get_exporter

    exporter = get_exporter(runtime)
    return exporter.not_executed_here() if isinstance(exporter, MayOnlyEvaluate) else ""


def suite_targets(suite: Suite) -> list[tuple[Target, list[str]]]:
    """Every target of a suite, with the precisions that models are exported in.

    Raises:
        InputError: no such target, a precision that it or its runtime does not have, or a runtime
            that is not installed.
    """
    from edgekd.export.registry import get_exporter

    found = []
    for name, precisions in suite.targets.items():
        target = load_target(name)
        chosen = precisions or target.precisions
        known = [one for one in target.precisions if one in get_exporter(target.runtime).precisions]
        unknown = [one for one in chosen if one not in known]
        if unknown:
            raise InputError(
                f"precisions of target `{target.name}` are {', '.join(known)}", repr(unknown[0])
            )
        found.append((target, chosen))
    return found


@dataclass(frozen=True)
class SuiteMatrix:
    """From models to the rows of a suite.

    Attributes:
        prompts: of the parity of exports.
        run: exports lie in its `export/<model>/<target>/<precision>/`.
    """

    suite: Suite
    targets: Sequence[tuple[Target, list[str]]]
    section: ExportSection
    prompts: list[str]
    run: Path
    progress: Progress

    @property
    def deployed(self) -> tuple[str, str] | None:
        """Runtime and precision that the headline speaks of: the first target's; None: torch."""
        for target, precisions in self.targets:
            return target.runtime, target.deploy if target.deploy in precisions else precisions[0]
        return None

    def cases(self, models: Sequence[Model]) -> tuple[Case, ...]:
        """Every row of every model; exports that are not there yet are made.

        An export that fails is a row that failed.
        """
        rows = [case for model in models for case in self._of_model(model)]
        return tuple(drawn for case in rows for drawn in self._drawn(case))

    def _of_model(self, model: Model) -> Iterator[Case]:
        from edgekd.benchmark.generation import row_generation

        own = row_generation(model.path, self.suite.generation)
        yield replace(folder_case(model), generation=own)
        if model.exported:
            return
        for target, precisions in self.targets:
            for export in self._exports(model, target, precisions):
                yield replace(export_case(model, export, target.name), generation=own)

    def _exports(self, model: Model, target: Target, precisions: list[str]) -> Iterator[Export]:
        from edgekd.benchmark.generation import recommended_generation
        from edgekd.export.stage import ExportPlan, export_each

        generation = recommended_generation(model.path)
        section = self.section.model_copy(update={"precisions": precisions})
        plan = ExportPlan(target, section, self.prompts, generation)
        key = hash_value([code_key(), model.key, target.model_dump()])
        out = self.run / "export" / model.name / target.name
        for precision, made in export_each(model.path, plan, out, key, self.progress):
            reason = str(made) if isinstance(made, EdgekdError) else ""
            if reason:
                self.progress.info(f"{model.name} {target.name} {precision} failed: {reason}")
            yield Export(target, precision, out / precision, reason)

    def _drawn(self, case: Case) -> Iterator[Case]:
        """A row as its model draws, and once more for each of the suite's generations."""
        from edgekd.benchmark.generation import suite_generation

        yield case
        for name, section in self.suite.generations.items():
            generation = suite_generation(case.source or case.path, section)
            yield replace(case, name=f"{case.name} {name}", generation=generation)
