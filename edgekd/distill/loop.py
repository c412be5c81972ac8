"""Distil a student: from a teacher and its cached latents to a pipeline folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from edgekd.artifacts import StudentCheckpoint, TeacherCache, finish, finished
from edgekd.diffusion.load import Teacher, load_teacher
from edgekd.disk import writing
from edgekd.distill.batches import Latents
from edgekd.distill.trainer import CHECKPOINTS, METRICS_FILE, Trainer
from edgekd.errors import InputError
from edgekd.progress import Progress, Silent
from edgekd.recipe import DistillSection
from edgekd.student.arch import StudentArch
from edgekd.student.build import save_student
from edgekd.training.cpu import training_cpu


def distill(
    section: DistillSection,
    arch: StudentArch,
    teacher_path: Path,
    cache: TeacherCache,
    out: Path,
    progress: Progress,
    key: str,
) -> StudentCheckpoint:
    """Train a student on a teacher's cached latents.

    Writes below `out`: `student/` (a diffusers pipeline with the averaged weights),
    `metrics.jsonl`, `tensorboard/`, `samples/*.png` and, until the run is finished,
    `checkpoints/`. A finished run of the same key returns at once; an unfinished one continues
    from its last checkpoint; what a run of another key left is removed. Under `torchrun` or
    `accelerate launch` all processes call this together and the first one writes.

    Args:
        arch: the student, all fields explicit.
        key: hash of everything that the result depends on.

    Raises:
        InputError: a cache of another teacher, an empty split, no feature to compare, or an
            out folder that is full or not writable.
        GateError: a loss term or the gradient is not finite.
    """
    from edgekd.data.cache_writer import CachedLatents

    done = _finished(out, key)
    if done:
        return done
    accelerator = make_accelerator(section)
    teacher = load_teacher(teacher_path, device=str(accelerator.device))
    if cache.teacher_key != teacher.info.key:
        raise InputError("the cache must be of this teacher", f"{cache.root} of another one")
    train = CachedLatents.load(cache, "train")
    validation = CachedLatents.load(cache, "validation")
    return train_student(section, arch, teacher, train, validation, accelerator, out, progress, key)


def train_student(
    section: DistillSection,
    arch: StudentArch,
    teacher: Teacher,
    train: Latents,
    validation: Latents,
    accelerator: Any,
    out: Path,
    progress: Progress,
    key: str,
) -> StudentCheckpoint:
    """`distill` with everything loaded. Raises as it does."""
    done = _finished(out, key)
    if done:
        return done
    with training_cpu(section.threads):
        trainer = Trainer(section, arch, teacher, train, validation, accelerator, out, key)
        trainer.run(progress if accelerator.is_main_process else Silent())
        if accelerator.is_main_process:
            _publish(teacher.info.path, trainer.ema.model, out, key, section.steps)
        accelerator.wait_for_everyone()
    return StudentCheckpoint(out / "student", key, out / METRICS_FILE)


def make_accelerator(section: DistillSection) -> Any:
    """An `Accelerator` on the devices and processes that a launcher gave, if there was one.

    Precision belongs to the recipe and is set per forward pass: the launcher's is not used.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    # Features alone leave the last layers without a gradient.
    unused = section.losses.task + section.losses.output == 0
    accelerator = Accelerator(
        # Accelerate joins processes on CPUs only where it is told to use the CPU.
        cpu=processes > 1 and not torch.accelerator.is_available(),
        mixed_precision="no",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
    )
    if accelerator.num_processes != processes:
        # Each would take itself for the first and write to the same folder.
        raise InputError(
            "processes that are launched together must be able to train together",
            f"WORLD_SIZE={processes} on `{accelerator.device}`",
            "Start one process.",
        )
    return accelerator


def _finished(out: Path, key: str) -> StudentCheckpoint | None:
    student = out / "student"
    if finished(out, key) is None or not student.is_dir():
        return None
    return StudentCheckpoint(student, key, out / METRICS_FILE)


def _publish(teacher_path: Path, unet: Any, out: Path, key: str, steps: int) -> None:
    """Write the student's pipeline and mark the run as finished.

    The U-Net stays in fp32, even where the teacher is stored in fp16: what is exported and
    checked for parity later is then exactly what was validated here.
    """
    with writing(out / "student"):
        save_student(teacher_path, unet, out / "student")
        finish(out, key, steps=steps)
    # Of no more use: another number of steps is another key, which starts anew.
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
