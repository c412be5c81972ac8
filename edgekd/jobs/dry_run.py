"""`edgekd distill --dry-run`: does a recipe run here, and what would it take on a GPU?

Every phase of the recipe does one whole optimisation step of one sample at the recipe's
resolution, in a process of its own. Nothing is read but the teacher, and nothing is left: the
latents are random, and so are a teacher's weights where only its architecture is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.errors import InputError
from edgekd.jobs.gpus import Gpu, GpuPlan, plan_gpu
from edgekd.jobs.memory_plan import needed_bytes, static_bytes, step_bytes
from edgekd.jobs.plan import at_resolution, needed_phases
from edgekd.jobs.teachable import check_phases
from edgekd.jobs.text_work import text_encoder_parameters
from edgekd.progress import Progress
from edgekd.reading import read_json
from edgekd.recipe import Recipe
from edgekd.recipe_distill import PhaseName
from edgekd.resources import STARTER_NAME, find_yaml
from edgekd.training.sharding import launched

if TYPE_CHECKING:
    from edgekd.diffusion.validate import TeacherInfo
    from edgekd.jobs.rehearsal import Rehearsal, RehearsalOrder
    from edgekd.student.arch import StudentArch


@dataclass(frozen=True)
class DryRunSubject:
    """A recipe with its teacher, checked against each other.

    Attributes:
        teacher: a pipeline folder, or a published architecture with random weights.
        arch: of the student, with every field explicit.
        teacher_parameters: of all its models.
        student_parameters: of the U-Net; so are the MACs, of one pass of one sample.
        unet_parameters: of the teacher's.
        vae_config, text_configs: the teacher's.
    """

    recipe: Recipe
    teacher: Path | str
    info: TeacherInfo
    arch: StudentArch
    phases: tuple[PhaseName, ...]
    teacher_parameters: int
    student_parameters: int
    unet_parameters: int
    teacher_macs: int
    student_macs: int
    vae_config: Mapping[str, Any]
    text_configs: Sequence[Mapping[str, Any]]

    @property
    def latent_size(self) -> int:
        return self.recipe.data.side // self.info.vae_scale_factor

    def taught_parameters(self, phase: PhaseName) -> int:
        """Of what a phase trains; those of a narrow VAE are too few to count."""
        if phase == "text_encoder":
            return text_encoder_parameters(self.recipe.distill.text_encoder, self.text_configs)
        return 0 if phase == "decoder" else self.student_parameters

    def beside_parameters(self, phase: PhaseName) -> int:
        """Of what a phase trains beside: the fake score of distribution matching."""
        beside = phase == "few_step" and self.recipe.distill.few_step.method == "distribution"
        return self.unet_parameters if beside else 0


@dataclass(frozen=True)
class PhasePlan:
    """One phase.

    Attributes:
        samples: of one step.
        tmacs: 1e12 multiply-accumulates of the whole phase.
        rehearsal: None where it does not fit in this machine's memory.
        memory_bytes: of the recipe's micro-batch; without activations where they are not known.
    """

    phase: PhaseName
    steps: int
    samples: int
    tmacs: float
    rehearsal: Rehearsal | None
    memory_bytes: int
    gpu: GpuPlan | None


@dataclass(frozen=True)
class DryRun:
    """What a dry run found.

    Attributes:
        random_weights: the architecture that stood in for the teacher.
        missing_sources: of the recipe's images, not there.
        free_bytes: of this machine's memory (the GPU's where there is one), before.
    """

    subject: DryRunSubject
    random_weights: str | None
    missing_sources: tuple[str, ...]
    free_bytes: int
    gpu: Gpu | None
    phases: tuple[PhasePlan, ...]

    @property
    def too_large(self) -> tuple[PhaseName, ...]:
        """Phases that this machine has not the memory for."""
        return tuple(plan.phase for plan in self.phases if plan.rehearsal is None)


def subject_of(recipe: Recipe) -> DryRunSubject:
    """Check a recipe against its teacher, or against the architecture that stands in for it.

    Raises:
        InputError: whatever does not fit.
    """
    from edgekd.benchmark.suite import load_suite
    from edgekd.search.candidate import with_given_student
    from edgekd.student.cost import unet_cost
    from edgekd.student.inspect import inspect_components
    from edgekd.student.reference import ARCHITECTURES
    from edgekd.student.resolve import full, resolve_arch
    from edgekd.student.text_depth import TEXT_ENCODERS, pruned_configs, read_text_configs

    recipe = with_given_student(recipe)
    load_suite(find_yaml("benchmarks", recipe.benchmark.suite, "benchmark.suite"))
    teacher = _teacher(recipe)
    if isinstance(teacher, str):
        from edgekd.benchmark.random_pipeline import random_info

        info, configs = random_info(teacher), ARCHITECTURES[teacher]
        config, vae_config = configs["unet"], configs["vae"]
        texts = tuple(dict(configs[name]) for name in TEXT_ENCODERS if name in configs)
        parts = inspect_components(arch=teacher)
    else:
        from edgekd.diffusion.validate import inspect_teacher

        info = inspect_teacher(teacher)
        config, vae_config = (read_json(teacher / name / "config.json") for name in ("unet", "vae"))
        texts = read_text_configs(teacher)
        parts = inspect_components(path=teacher)
    recipe = at_resolution(recipe, info)
    size = recipe.data.side // info.vae_scale_factor
    arch = resolve_arch(recipe.student, config)
    phases = needed_phases(recipe.distill, arch, config)
    check_phases(recipe, info, _scheduler(teacher), phases)
    if "text_encoder" in phases:
        pruned_configs(texts, recipe.distill.text_encoder.depth)  # refuses what cannot be
    whole, student = (
        unet_cost(one, config, (size, size), info.text_tokens) for one in (full(config), arch)
    )
    return DryRunSubject(
        recipe,
        teacher,
        info,
        arch,
        phases,
        teacher_parameters=parts["total"]["parameters"],
        student_parameters=student.parameters,
        unet_parameters=whole.parameters,
        teacher_macs=whole.macs,
        student_macs=student.macs,
        vae_config=vae_config,
        text_configs=texts,
    )


def _teacher(recipe: Recipe) -> Path | str:
    from edgekd.diffusion.resolve import resolve_pipeline

    section = recipe.teacher
    absent = section.path != STARTER_NAME and not Path(section.path).expanduser().exists()
    if absent and section.arch is not None:
        return section.arch
    return resolve_pipeline(section.path, "teacher")


def _scheduler(teacher: Path | str) -> Any:
    from edgekd.diffusion.components import load_scheduler
    from edgekd.diffusion.noise_schedule import build_scheduler

    return build_scheduler() if isinstance(teacher, str) else load_scheduler(teacher / "scheduler")


def dry_run(recipe: Recipe, gpu: Gpu | None, progress: Progress) -> DryRun:
    """Rehearse every phase of a recipe that fits in memory, and plan it.

    Raises:
        InputError: whatever does not fit; or several processes.
        GateError: a loss that is not finite, or a process that the system killed.
    """
    if launched() > 1:
        raise InputError("`--dry-run` must be one process", f"WORLD_SIZE={launched()}")
    subject = subject_of(recipe)
    free, missing = free_bytes(), _missing(recipe.data.sources)
    plans = []
    for phase in subject.phases:
        fits = free >= needed_bytes(subject, phase)
        progress.info(f"[{phase}] one step of one sample" if fits else f"[{phase}] planned only")
        found = _rehearse(subject, phase) if fits else None
        plans.append(plan_phase(subject, phase, found, gpu))
    random = subject.teacher if isinstance(subject.teacher, str) else None
    return DryRun(subject, random, missing, free, gpu, tuple(plans))


def free_bytes() -> int:
    """Memory of the device that would train."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    import psutil

    return int(psutil.virtual_memory().available)


def _missing(sources: list[str]) -> tuple[str, ...]:
    import glob

    return tuple(
        source
        for source in sources
        if source != STARTER_NAME and not glob.glob(str(Path(source).expanduser()), recursive=True)
    )


def _rehearse(subject: DryRunSubject, phase: PhaseName) -> Rehearsal:
    """In a fresh process: the memory of one phase is not that of the phase before it."""
    from edgekd.jobs.rehearsal import rehearse
    from edgekd.processes.child import Child

    with Child(f"dry run of {phase}") as child:
        return child.call(rehearse, order_of(subject, phase))


def order_of(subject: DryRunSubject, phase: PhaseName) -> RehearsalOrder:
    from edgekd.jobs.rehearsal import RehearsalOrder

    return RehearsalOrder(
        phase, subject.teacher, subject.recipe.distill, subject.arch, subject.latent_size
    )


def plan_phase(
    subject: DryRunSubject, phase: PhaseName, rehearsal: Rehearsal | None, gpu: Gpu | None
) -> PhasePlan:
    """The work of a whole phase, and the memory of its micro-batch."""
    from edgekd.jobs.forecast import Passes, phase_macs

    section = subject.recipe.distill
    loop = section.loop(phase)
    passes = Passes(
        *(subject.teacher_macs, subject.student_macs, subject.vae_config, subject.latent_size),
        subject.text_configs,
    )
    macs = phase_macs(section, phase, passes)
    memory = static_bytes(subject, phase)
    if rehearsal is not None:
        memory = step_bytes(subject, phase, rehearsal)
    return PhasePlan(
        phase,
        steps=loop.steps,
        samples=loop.batch_size * loop.gradient_accumulation,
        tmacs=macs / 1e12,
        rehearsal=rehearsal,
        memory_bytes=memory,
        gpu=None if gpu is None else plan_gpu(gpu, macs, memory),
    )
