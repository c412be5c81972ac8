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
from edgekd.distill.consistency import ConsistencyDistillation
from edgekd.distill.decoder import DecoderMatching
from edgekd.distill.distribution import DistributionMatching
from edgekd.distill.few_step import Drawn, TrajectoryMatching
from edgekd.distill.folder import RunFolder
from edgekd.distill.guidance import condition_on_guidance
from edgekd.distill.kd import NoisePrediction
from edgekd.distill.lesson import Lesson
from edgekd.distill.loop import make_accelerator, new_student, trainable
from edgekd.distill.random_latents import RandomLatents
from edgekd.distill.sources import Sources
from edgekd.distill.step_cost import StepCost, measure_step
from edgekd.distill.trainer import Trainer
from edgekd.distill.trajectories import Drawer, KeptTrajectories
from edgekd.recipe_distill import DistillSection, LoopSection, PhaseName
from edgekd.student.arch import StudentArch
from edgekd.training.cpu import training_cpu
from edgekd.training.precision import autocast_dtype

_SAMPLES = 4


@dataclass(frozen=True)
class Order:
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
class Drawing:
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
    drawing: Drawing | None
    step: StepCost


@dataclass(frozen=True)
class _Made:
    """A lesson; `drawing_seconds` include what was drawn to warm up."""

    lesson: Lesson
    loop: LoopSection
    drawing: Drawing | None = None
    drawing_seconds: float = 0.0


def rehearse(order: Order) -> Rehearsal:
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
        trainer = Trainer(made.loop, made.lesson, RunFolder(Path(), ""), accelerator)
        loading = time.perf_counter() - started - made.drawing_seconds
        drawing = made.drawing
        if drawing is not None:
            drawing = replace(drawing, needed=_drawn_passes(order.section))
        autocast = autocast_dtype(order.section.precision, accelerator.device)
        precision = "fp32" if autocast is None else "bf16"
        return Rehearsal(precision, loading, drawing, measure_step(trainer, teacher))


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


def _teacher(order: Order, device: torch.device) -> Teacher:
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


def _kd(order: Order, sources: Sources, accelerator: Any) -> _Made:
    section = order.section
    student = new_student(section, order.arch, sources)
    lesson = NoisePrediction(section, order.arch, student, sources, accelerator)
    return _Made(lesson, section)


def _few_step(order: Order, sources: Sources, accelerator: Any) -> _Made:
    section = order.section
    if section.few_step.method == "trajectory":
        return _trajectories(order, sources, accelerator)
    student = new_student(section, order.arch, sources)
    if section.few_step.method == "distribution":
        return _Made(DistributionMatching(section, student, sources, accelerator), section.few_step)
    student = trainable(condition_on_guidance(student), section.gradient_checkpointing)
    return _Made(ConsistencyDistillation(section, student, sources, accelerator), section.few_step)


def _trajectories(order: Order, sources: Sources, accelerator: Any) -> _Made:
    """The teacher's way has as few steps as the student's: the pace of a pass is all we ask."""
    section = order.section
    steps = section.few_step.student_steps
    shortest = section.few_step.model_copy(update={"teacher_steps": steps})
    drawer = Drawer(
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
    drawing = Drawing(done=steps, seconds=ended - started, needed=steps)
    student = new_student(section, order.arch, sources)
    lesson = TrajectoryMatching(section, student, sources, Drawn(kept, kept), accelerator)
    return _Made(lesson, section.few_step, drawing, ended - begun)


def _decoder(order: Order, sources: Sources, accelerator: Any) -> _Made:
    """Drawn latents have the shape of images': those do for both."""
    lesson = DecoderMatching(order.section, sources, None, accelerator)
    return _Made(lesson, order.section.decoder)


def _drawn_passes(section: DistillSection) -> int:
    """Guided passes of the teacher for the recipe's trajectories."""
    settings = section.few_step
    parts = -(-settings.teacher_steps // settings.student_steps)
    held_out = min(settings.validation_samples, settings.trajectories)
    return (settings.trajectories + held_out) * parts * settings.student_steps


_LESSONS: dict[PhaseName, Callable[[Order, Sources, Any], _Made]] = {
    "kd": _kd,
    "few_step": _few_step,
    "decoder": _decoder,
}
