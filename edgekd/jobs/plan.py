"""A recipe, a target and a teacher, checked against each other before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.data.buckets import training_sizes
from edgekd.errors import InputError
from edgekd.files import write_json, write_text
from edgekd.jobs.teachable import check_phases
from edgekd.jobs.teacher import checked_teacher, teacher_folder
from edgekd.reading import read_json
from edgekd.recipe import Recipe
from edgekd.recipe_distill import DecoderSection, DistillSection, PhaseName
from edgekd.resources import find_yaml
from edgekd.runtime.sampler_names import sampler_class
from edgekd.target import Target

if TYPE_CHECKING:
    from edgekd.benchmark.suite import Suite
    from edgekd.devices.connect import Connected
    from edgekd.diffusion.validate import TeacherInfo
    from edgekd.export.protocol import Exporter
    from edgekd.jobs.gates import Gate
    from edgekd.search.candidate import Candidate
    from edgekd.student.arch import StudentArch


@dataclass(frozen=True)
class Plan:
    """A recipe, a target and a teacher that have passed every check that needs no computation.

    Attributes:
        arch: of the student, with every field explicit; the whole teacher's until a search ends.
        phases: those of the recipe that have anything to teach this student.
        found: how a search found the student, for its card; empty: it was not from one.
        devices: that have answered, where others than this machine measure.
    """

    recipe: Recipe
    target: Target
    suite: Suite
    teacher: TeacherInfo
    arch: StudentArch
    run: Path
    phases: tuple[PhaseName, ...]
    gates: tuple[Gate, ...] = ()
    found: str = ""
    devices: tuple[Connected, ...] = ()

    @property
    def precisions(self) -> list[str]:
        return self.recipe.export.precisions or self.target.precisions


def make_plan(recipe: Recipe, target: Target, run: Path) -> Plan:
    """Check recipe, target, suite and teacher against each other.

    Raises:
        InputError: whatever does not fit, before anything is computed or written.
    """
    path = teacher_folder(recipe, run)
    from edgekd.benchmark.asked import measurable
    from edgekd.benchmark.suite import load_suite
    from edgekd.data.sources import check_sources
    from edgekd.diffusion.components import load_scheduler
    from edgekd.export.registry import get_exporter
    from edgekd.jobs.gates import gates
    from edgekd.metrics.registry import load_metrics
    from edgekd.search.candidate import how_found, with_given_student
    from edgekd.student.resolve import resolve_arch
    from edgekd.student.text_depth import pruned_configs, read_text_configs
    from edgekd.training.optimizer import check_optimizers
    from edgekd.training.sharding import sharded_launch
    from edgekd.training.trackers import check_trackers

    check_trackers(recipe.distill.trackers)
    check_optimizers(recipe.distill.loop(phase) for phase in recipe.distill.phases)
    found, recipe = how_found(recipe), with_given_student(recipe)
    target = deployed_as(target, recipe.export.deploy)
    check_sources(recipe.data)
    if sharded_launch():
        from edgekd.distill.loop import check_shared_students

        check_shared_students(recipe.distill)
    suite = load_suite(find_yaml("benchmarks", recipe.benchmark.suite, "benchmark.suite"))
    if recipe.benchmark.sampler is not None:
        suite = suite.with_sampler(sampler_class(recipe.benchmark.sampler))
    exporter = get_exporter(target.runtime)
    teacher = checked_teacher(path)
    metrics = measurable(load_metrics(), suite.weights)
    bounds = gates(recipe, target, [metric.descriptor for metric in metrics])
    config = read_json(teacher.path / "unet" / "config.json")
    arch = resolve_arch(recipe.student, config)
    phases = tuple(recipe.distill.phases)
    if "text_encoder" in phases:
        pruned_configs(read_text_configs(path), recipe.distill.text_encoder.depth)
    if "decoder" in phases:
        check_decoder(recipe.distill.decoder, teacher.path, exporter)
    if not recipe.student.searched:
        phases = needed_phases(recipe.distill, arch, config)
    recipe = at_resolution(recipe, teacher)
    check_phases(recipe, teacher, load_scheduler(teacher.path / "scheduler"), phases)
    plan = Plan(recipe, target, suite, teacher, arch, run, phases, tuple(bounds), found)
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
    return plan


def check_decoder(section: DecoderSection, teacher: Path, exporter: Exporter) -> None:
    """Refuse a narrow VAE that cannot be made of a teacher's, or that no client would draw with.

    Raises:
        InputError: see `student_vae_config`; or a kind that the runtime does not take.
    """
    from edgekd.student.decoder import student_vae_config

    student_vae_config(section, read_json(teacher / "vae" / "config.json"))
    if section.kind == "tiny" and not exporter.accepts_tiny_decoder:
        raise InputError(
            f"`distill.decoder.kind` must be kl, clients of `{exporter.name}` know no "
            "AutoencoderTiny",
            section.kind,
        )


def deployed_as(target: Target, precision: str | None) -> Target:
    """The target with another precision that its headline figures speak of; None: its own.

    Raises:
        InputError: the target does not list it.
    """
    if precision is None:
        return target
    if precision not in target.precisions:
        raise InputError(
            f"`export.deploy` must be among the precisions of target `{target.name}` "
            f"({', '.join(target.precisions)})",
            repr(precision),
        )
    return target.model_copy(update={"deploy": precision})


def with_student(plan: Plan, candidate: Candidate, found: str) -> Plan:
    """The plan that makes the student that a search has chosen.

    Args:
        found: how, in words.
    """
    from edgekd.search.candidate import with_candidate

    recipe = with_candidate(plan.recipe, candidate)
    config = read_json(plan.teacher.path / "unet" / "config.json")
    return replace(
        plan,
        recipe=recipe,
        target=deployed_as(plan.target, candidate.precision),
        arch=candidate.arch,
        phases=needed_phases(recipe.distill, candidate.arch, config),
        found=found,
    )


def needed_phases(
    section: DistillSection, arch: StudentArch, teacher_config: Mapping[str, Any]
) -> tuple[PhaseName, ...]:
    """The recipe's phases but for `kd` where the student is a whole copy of its teacher.

    Raises:
        InputError: no phase is left.
    """
    from edgekd.student.resolve import full

    knows_all = section.initialise == "teacher" and arch == full(teacher_config)
    phases = tuple(name for name in section.phases if name != "kd" or not knows_all)
    if not phases:
        raise InputError(
            "`distill.phases` must teach something to a student that is a whole copy of its "
            "teacher",
            repr(section.phases),
            "Add `few_step`, or choose a smaller `student.preset`.",
        )
    return phases


def at_resolution(recipe: Recipe, teacher: TeacherInfo) -> Recipe:
    """The recipe with its own resolution and step of aspect buckets, or else the teacher's.

    Raises:
        InputError: its own is no multiple of the VAE's factor, or of the step.
    """
    side, factor = recipe.data.resolution or teacher.resolution, teacher.vae_scale_factor
    if side % factor:
        raise InputError(
            f"`data.resolution` must be a multiple of the VAE's factor {factor}", str(side)
        )
    data = recipe.data.model_copy(update={"resolution": side})
    if data.aspect_buckets:
        factor *= teacher.unet_scale_factor
        data = data.model_copy(update={"bucket_step": data.bucket_step or factor})
        if any(length % factor for size in training_sizes(data) for length in size):
            raise InputError(
                f"`data.bucket_step` must be a multiple of {factor}, the VAE's factor times the "
                "U-Net's",
                str(data.bucket_step),
            )
    return recipe.model_copy(update={"data": data})


def with_sized_teacher(plan: Plan) -> Plan:
    """The plan with a teacher that draws pictures of the recipe's size by itself.

    Call it in an open run folder.
    """
    from edgekd.diffusion.native_size import teacher_of_size

    teacher = teacher_of_size(plan.teacher, plan.recipe.data.side, plan.run / "teacher")
    return replace(plan, teacher=teacher)


def describe(plan: Plan) -> None:
    """Write the resolved recipe and the machine beside the results."""
    import yaml

    from edgekd.measure.environment import environment

    text = yaml.safe_dump(plan.recipe.model_dump(), sort_keys=False)
    write_text(plan.run / "recipe.yaml", text)
    write_json(plan.run / "environment.json", environment())
