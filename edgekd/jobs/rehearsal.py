"""One optimisation step of one phase, of a single sample: what a dry run does in a process of its
own.

A phase is added in `_LESSONS`: how its lesson is made where nothing is on disk.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from edgekd.diffusion.load import Teacher, load_teacher
from edgekd.distill.decoder import DecoderMatching
from edgekd.distill.few_step import Drawn
from edgekd.distill.folder import RunFolder
from edgekd.distill.lesson import Lesson
from edgekd.distill.lessons import few_step_lesson, first_student, kd_lesson
from edgekd.distill.loop import make_accelerator
from edgekd.distill.random_latents import RandomLatents
from edgekd.distill.sources import Sources
from edgekd.distill.step_cost import StepCost, measure_step
from edgekd.distill.text_encoder import TextMatching
from edgekd.distill.trainer import Trainer
from edgekd.distill.trajectories import KeptTrajectories, TrajectoryDrawer
from edgekd.recipe_distill import DistillSection, FewStepSection, LoopSection, PhaseName
from edgekd.student.arch import StudentArch
from edgekd.training.cpu import training_cpu
from edgekd.training.precision import autocast_dtype

_SAMPLES = 4


@dataclass(frozen=True)
class RehearsalOrder:
    """What to rehearse.

    Attributes:
        teacher: a pipeline folder, or a published architecture to be given random weights.
        section: the recipe's.
        arch: of the student, with every field explicit.
        latent_size: side of the latents.
    """

    phase: PhaseName
    teacher: Path | str
    section: DistillSection
    arch: StudentArch
    latent_size: int


@dataclass(frozen=True)
class DrawingPace:
    """What the teacher draws before a phase can train; passes are of one guided sample.

    Attributes:
        done, seconds: here.
        needed: for the recipe.
    """

    done: int
    seconds: float
    needed: int

    @property
    def expected_seconds(self) -> float:
        """Of all of it, at the pace of what was done."""
        return self.seconds * self.needed / self.done


@dataclass(frozen=True)
class Rehearsal:
    """What one phase took here.

    Attributes:
        precision: `bf16` or `fp32`, of the forward passes on this device.
        load_seconds: until the step could begin, without the drawing.
    """

    precision: str
    load_seconds: float
    drawing: DrawingPace | None
    step: StepCost


@dataclass(frozen=True)
class _Pace:
    """Passes of the teacher and their seconds; `all_seconds` with those that warmed it up."""

    passes: int
    seconds: float
    all_seconds: float


@dataclass(frozen=True)
class _Made:
    """A lesson, and the pace of what was drawn for it."""

    lesson: Lesson
    pace: _Pace | None = None


def rehearse(order: RehearsalOrder) -> Rehearsal:
    """Load or make the teacher, and do one step of a phase on the device at hand.

    Raises:
        InputError: the recipe's steps do not fit its teacher.
        GateError: a term or the gradient is not finite.
    """
    with training_cpu(order.section.threads):
        started = time.perf_counter()
        accelerator = make_accelerator()
        teacher = _teacher(order, accelerator.device)
        latents = RandomLatents(teacher, _SAMPLES, order.section.seed, order.latent_size)
        sources = Sources(teacher, latents, latents)
        small = replace(order, section=of_one_sample(order.section))
        made = _LESSONS[order.phase](small, sources, accelerator)
        # A step alone writes nothing into its run's folder.
        loop = small.section.loop(order.phase)
        trainer = Trainer(loop, made.lesson, RunFolder(Path(), ""), accelerator)
        loading, drawing = time.perf_counter() - started, None
        if made.pace is not None:
            loading -= made.pace.all_seconds
            needed = _drawn_passes(order.section.few_step)
            drawing = DrawingPace(made.pace.passes, made.pace.seconds, needed)
        autocast = autocast_dtype(order.section.precision, accelerator.device)
        precision = "fp32" if autocast is None else "bf16"
        return Rehearsal(precision, loading, drawing, measure_step(trainer))


def of_one_sample(section: DistillSection) -> DistillSection:
    """The same with steps of one sample, in each of its loops."""
    one = {"batch_size": 1, "gradient_accumulation": 1, "validation_samples": 1}
    values = {name: getattr(section, name) for name in type(section).model_fields}
    loops = {
        name: value.model_copy(update=one)
        for name, value in values.items()
        if isinstance(value, LoopSection)
    }
    return section.model_copy(update={**one, **loops})


def _teacher(order: RehearsalOrder, device: torch.device) -> Teacher:
    if isinstance(order.teacher, str):
        from edgekd.benchmark.random_pipeline import random_teacher

        return random_teacher(
            order.teacher, order.latent_size, order.section.seed, device=str(device)
        )
    from edgekd.diffusion.native_size import teacher_of_size
    from edgekd.diffusion.validate import inspect_teacher

    info = inspect_teacher(order.teacher)
    with tempfile.TemporaryDirectory(prefix="edgekd-") as folder:
        side = order.latent_size * info.vae_scale_factor
        sized = teacher_of_size(info, side, Path(folder) / "teacher")
        return load_teacher(sized.path, device=str(device))


def _kd(order: RehearsalOrder, sources: Sources, accelerator: Any) -> _Made:
    return _Made(kd_lesson(order.section, order.arch, sources, accelerator))


def _few_step(order: RehearsalOrder, sources: Sources, accelerator: Any) -> _Made:
    pace: list[_Pace] = []

    def drawn() -> Drawn:
        kept, found = _drawn(order, sources)
        pace.append(found)
        return Drawn(kept, kept)

    student = first_student(order.section, order.arch, sources)
    lesson = few_step_lesson(order.section, student, sources, drawn, accelerator)
    return _Made(lesson, *pace)


def _drawn(order: RehearsalOrder, sources: Sources) -> tuple[KeptTrajectories, _Pace]:
    """The teacher's way has as few steps as the student's: the pace of a pass is all we ask."""
    section = order.section
    steps = section.few_step.student_steps
    shortest = section.few_step.model_copy(update={"teacher_steps": steps, "guidance_stop": 1.0})
    drawer = TrajectoryDrawer(
        section.model_copy(update={"few_step": shortest}),
        sources.teacher,
        sources.train,
        "train",
        order.latent_size,
    )
    begun = time.perf_counter()
    drawer.draw(range(1))  # the first passes of a process are slower
    started = time.perf_counter()
    kept = KeptTrajectories([drawer.draw(range(1))])
    ended = time.perf_counter()
    return kept, _Pace(steps, ended - started, ended - begun)


def _decoder(order: RehearsalOrder, sources: Sources, accelerator: Any) -> _Made:
    """Drawn latents have the shape of images': those do for both."""
    return _Made(DecoderMatching(order.section, sources, None, accelerator))


def _text_encoder(order: RehearsalOrder, sources: Sources, accelerator: Any) -> _Made:
    return _Made(TextMatching(order.section, sources, accelerator))


def _drawn_passes(settings: FewStepSection) -> int:
    """Passes of the teacher for the recipe's trajectories, in pairs where it is guided."""
    at_once = 2 if settings.guidance_scale > 1 else 1
    return -(-sum(settings.drawn.values()) * settings.teacher_passes // at_once)


_LESSONS: dict[PhaseName, Callable[[RehearsalOrder, Sources, Any], _Made]] = {
    "kd": _kd,
    "few_step": _few_step,
    "decoder": _decoder,
    "text_encoder": _text_encoder,
}
