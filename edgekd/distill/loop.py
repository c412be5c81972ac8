"""Distil a student: from a teacher and its cached latents to a pipeline folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from edgekd.artifacts import StudentCheckpoint
from edgekd.distill.folder import STUDENT, RunFolder
from edgekd.distill.projections import drop_projections
from edgekd.distill.sources import Source
from edgekd.distill.terms.registry import weighted_terms
from edgekd.distill.trainer import Trainer
from edgekd.errors import InputError
from edgekd.file_record import finish
from edgekd.files import writing
from edgekd.folders import finished
from edgekd.progress import Progress, Silent
from edgekd.recipe import DistillSection
from edgekd.student.arch import StudentArch
from edgekd.student.build import save_student
from edgekd.training.cpu import training_cpu
from edgekd.training.log import METRICS_FILE


def distill(
    section: DistillSection,
    arch: StudentArch,
    source: Source,
    folder: RunFolder,
    progress: Progress,
) -> StudentCheckpoint:
    """Train a student on a teacher's cached latents.

    Writes into `folder`: `student/` (a diffusers pipeline with the averaged weights),
    `metrics.jsonl`, `tensorboard/`, `samples/*.png` and, until the run is finished,
    `checkpoints/`. A finished run of the same key returns at once; an unfinished one continues
    from its last intact checkpoint; what a run of another key left is removed. Under `torchrun`
    or `accelerate launch` all processes call this together and the first one writes.

    Args:
        arch: with every field explicit.

    Raises:
        InputError: a cache of another teacher, an empty split, no feature to compare, or a
            folder that is full or not writable.
        GateError: a loss term or the gradient is not finite.
    """
    result = StudentCheckpoint(folder.path / STUDENT, folder.key, folder.path / METRICS_FILE)
    if finished(folder.path, folder.key, progress.info) is not None:
        return result
    accelerator = make_accelerator(section)
    sources = source.load(accelerator.device)
    with training_cpu(section.threads):
        trainer = Trainer(section, arch, sources, folder, accelerator)
        trainer.run(progress if accelerator.is_main_process else Silent())
        if accelerator.is_main_process:
            _publish(trainer, sources.teacher.info.path)
        accelerator.wait_for_everyone()
    return result


def make_accelerator(section: DistillSection) -> Any:
    """An `Accelerator` on the devices and processes that a launcher gave, if there was one.

    Precision belongs to the recipe and is set per forward pass: the launcher's is not used.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    # Features alone leave the last layers without a gradient.
    unused = not any(term.uses_prediction for term, _ in weighted_terms(section.losses))
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


def _publish(trainer: Trainer, teacher_path: Path) -> None:
    """Write the student's pipeline and mark the run as finished.

    The U-Net stays in fp32, even where the teacher is stored in fp16: what is exported and
    checked for parity later is then exactly what was validated here.
    """
    out = trainer.folder.path
    drop_projections(trainer.ema.model)
    with writing(out / STUDENT):
        save_student(teacher_path, trainer.ema.model, out / STUDENT)
        finish(out, trainer.folder.key, only=(STUDENT,), steps=trainer.section.steps)
    # Of no more use: another number of steps is another key, which starts anew.
    trainer.folder.checkpoints.clear()
