"""The whole way from a recipe and a target to a student, its export and a report.

This is the only module that knows the order of the stages. It checks all
input before the first long computation, names every artefact by the content
of what it was made from, and so resumes by itself.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd import __version__
from edgekd.artifacts import (
    BenchmarkReport,
    ExportedPipeline,
    PreparedData,
    StudentCheckpoint,
    TeacherCache,
    hash_value,
    read_json,
    remove_leftovers,
    run_lock,
    write_json,
)
from edgekd.errors import GateError
from edgekd.progress import Progress, format_seconds
from edgekd.recipe import Recipe
from edgekd.resources import find_yaml
from edgekd.target import Target

if TYPE_CHECKING:
    from edgekd.benchmark.suite import Suite
    from edgekd.teacher.validate import TeacherInfo


@dataclass(frozen=True)
class Plan:
    """A recipe, a target and a teacher that have passed every check that needs no computation."""

    recipe: Recipe
    target: Target
    suite: Suite
    teacher: TeacherInfo
    run: Path

    @property
    def precisions(self) -> list[str]:
        return self.recipe.export.precisions or self.target.precisions


def make_plan(recipe: Recipe, target: Target, run: Path) -> Plan:
    """Check recipe, target, suite and teacher against each other.

    Raises:
        InputError: whatever does not fit, before anything is computed or written.
    """
    from edgekd.benchmark.suite import load_suite
    from edgekd.errors import InputError
    from edgekd.export.registry import get_exporter
    from edgekd.student.arch import resolve_arch
    from edgekd.teacher.load import resolve_teacher
    from edgekd.teacher.validate import inspect_folder

    suite = load_suite(find_yaml("benchmarks", recipe.benchmark.suite))
    exporter = get_exporter(target.runtime)
    plan = Plan(recipe, target, suite, inspect_folder(resolve_teacher(recipe.teacher.path)), run)
    for precision in plan.precisions:
        if precision not in exporter.precisions:
            raise InputError(
                f"precisions of runtime `{exporter.name}` are {', '.join(exporter.precisions)}",
                repr(precision),
            )
    if target.deploy not in plan.precisions:
        raise InputError(
            f"`export.precisions` must hold the target's deploy precision `{target.deploy}`",
            repr(plan.precisions),
        )
    resolve_arch(recipe.student, read_json(plan.teacher.path / "unet" / "config.json"))
    if recipe.data.resolution % plan.teacher.vae_scale_factor:
        raise InputError(
            f"`data.resolution` must be a multiple of the VAE's factor "
            f"{plan.teacher.vae_scale_factor}",
            str(recipe.data.resolution),
        )
    return plan


@contextlib.contextmanager
def open_run(run: Path) -> Iterator[None]:
    """Lock a run folder and tidy what a killed process left in it."""
    with run_lock(run):
        remove_leftovers(run)
        yield


def prepare_data(plan: Plan, progress: Progress) -> tuple[PreparedData, TeacherCache]:
    """Prepare the images and record what the teacher makes of them."""
    from edgekd.data.cache import build_cache
    from edgekd.data.prepare import prepare
    from edgekd.teacher.load import load_teacher

    data = prepare(plan.recipe.data, plan.run / "prepared", progress)
    cache = build_cache(
        data, lambda: load_teacher(plan.teacher.path), plan.run / "cache", progress
    )
    return data, cache
