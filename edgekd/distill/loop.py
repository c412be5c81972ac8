"""One phase of a distillation, from its settings to the folder of a trained model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from edgekd.artifacts import TrainedPart, Trajectories
from edgekd.distill.consistency import ConsistencyDistillation
from edgekd.distill.decoder import DecoderMatching, Generated
from edgekd.distill.distribution import DistributionMatching
from edgekd.distill.few_step import Drawn, TrajectoryMatching
from edgekd.distill.folder import RunFolder
from edgekd.distill.guidance import condition_on_guidance
from edgekd.distill.kd import NoisePrediction, random_student, unused_parameters
from edgekd.distill.lesson import Lesson
from edgekd.distill.projections import add_projections, drop_projections
from edgekd.distill.sources import Source, Sources
from edgekd.distill.trainer import Trainer
from edgekd.distill.trajectories import KeptTrajectories, draw_trajectories
from edgekd.errors import InputError
from edgekd.file_record import finish
from edgekd.files import writing
from edgekd.folders import finished
from edgekd.progress import Progress, Silent
from edgekd.recipe_distill import DistillSection, LoopSection
from edgekd.student.arch import StudentArch
from edgekd.student.build import build_student, save_model
from edgekd.student.config import to_unet_config
from edgekd.training.cpu import training_cpu
from edgekd.training.log import METRICS_FILE


@dataclass(frozen=True)
class Compute:
    """What a phase trains on.

    Attributes:
        threads: of torch on a CPU; 0: torch's default.
        unused_parameters: some weights get no gradient in any step.
    """

    threads: int = 0
    unused_parameters: bool = False


@dataclass(frozen=True)
class FewStepPlaces:
    """Where the phase `few_step` keeps what it makes."""

    folder: RunFolder
    trajectories: Trajectories


def train(
    section: LoopSection,
    make_lesson: Callable[[Any], Lesson],
    folder: RunFolder,
    compute: Compute,
    progress: Progress,
) -> TrainedPart:
    """Train one component of a pipeline.

    Writes into `folder`: the component with the averaged weights, `metrics.jsonl`,
    `tensorboard/`, `samples/*.png` and, until the run is finished, `checkpoints/`. A finished run
    of the same key returns at once; an unfinished one continues from its last intact checkpoint;
    what a run of another key left is removed. Under `torchrun` or `accelerate launch` all
    processes call this together and the first one writes.

    Args:
        make_lesson: given accelerate's accelerator; called if there is anything to train.

    Raises:
        InputError: the lesson's own, or a folder that is full or not writable.
        GateError: a loss term or the gradient is not finite.
    """
    result = TrainedPart(folder.result, folder.key, folder.path / METRICS_FILE)
    if finished(folder.path, folder.key, progress.info) is not None:
        return result
    with training_cpu(compute.threads):
        accelerator = make_accelerator(compute.unused_parameters)
        lesson = make_lesson(accelerator)
        trainer = Trainer(section, lesson, folder, accelerator)
        trainer.run(progress if accelerator.is_main_process else Silent())
        if accelerator.is_main_process:
            _publish(trainer)
        accelerator.wait_for_everyone()
    return result


def train_kd(
    section: DistillSection,
    arch: StudentArch,
    source: Source,
    folder: RunFolder,
    progress: Progress,
) -> TrainedPart:
    """The phase `kd`: see `edgekd.distill.kd`, and `train` for what is written and raised.

    Args:
        arch: with every field explicit.
    """

    def make(accelerator: Any) -> Lesson:
        sources = source.load(accelerator.device)
        sources.check()
        student = new_student(section, arch, sources)
        add_projections(student, arch, sources.teacher.unet, section.losses)
        return NoisePrediction(section, arch, student, sources, accelerator)

    compute = Compute(section.threads, unused_parameters(section))
    return train(section, make, folder, compute, progress)


def train_few_step(
    section: DistillSection,
    load_student: Callable[[Sources], Any],
    source: Source,
    places: FewStepPlaces,
    progress: Progress,
) -> TrainedPart:
    """The phase `few_step`: see `train` for what it writes, and the method's own module.

    For trajectory matching the first process draws the teacher's trajectories, if they are not
    there.

    Args:
        load_student: the U-Net to begin with, on the teacher's device.
    """

    def make(accelerator: Any) -> Lesson:
        sources = source.load(accelerator.device)
        sources.check()
        student = load_student(sources)
        if section.few_step.method == "consistency":
            student = condition_on_guidance(student)
        student = trainable(student, section.gradient_checkpointing)
        if section.few_step.method == "consistency":
            return ConsistencyDistillation(section, student, sources, accelerator)
        if section.few_step.method == "distribution":
            return DistributionMatching(section, student, sources, accelerator)
        kept = places.trajectories
        if accelerator.is_main_process:
            draw_trajectories(section, sources, kept, progress)
        # Polled: a collective operation would time out.
        while finished(kept.root, kept.key) is None:
            time.sleep(1.0)
        splits = (KeptTrajectories.load(kept, split) for split in ("train", "validation"))
        return TrajectoryMatching(section, student, sources, Drawn(*splits), accelerator)

    return train(section.few_step, make, places.folder, Compute(section.threads), progress)


def train_decoder(
    section: DistillSection,
    source: Source,
    drawn: Trajectories | None,
    folder: RunFolder,
    progress: Progress,
) -> TrainedPart:
    """The phase `decoder`: see `edgekd.distill.decoder`, and `train` for what it writes.

    Args:
        drawn: finished trajectories, whose last latents are learnt from too.
    """

    def make(accelerator: Any) -> Lesson:
        sources = source.load(accelerator.device)
        sources.check()
        generated = None
        if drawn is not None:
            splits = (KeptTrajectories.load(drawn, split) for split in ("train", "validation"))
            generated = Generated(*splits)
        return DecoderMatching(section, sources, generated, accelerator)

    return train(section.decoder, make, folder, Compute(section.threads), progress)


def new_student(section: DistillSection, arch: StudentArch, sources: Sources) -> Any:
    """The student with its first weights: the teacher's, or random ones of the recipe's seed."""
    unet = sources.teacher.unet
    if section.initialise == "teacher":
        student = build_student(unet, arch)
    else:
        config = to_unet_config(arch, dict(unet.config))
        student = random_student(config, section.seed, unet.device)
    return trainable(student, section.gradient_checkpointing)


def trainable(unet: Any, gradient_checkpointing: bool) -> Any:
    """A U-Net made ready to learn."""
    if gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    # Evaluation mode: a U-Net has no layer that must train differently, and the dropout that
    # a config may ask for would draw from the global generator.
    return unet.requires_grad_(True).eval()


def make_accelerator(unused_parameters: bool = False) -> Any:
    """An `Accelerator` on the devices and processes that a launcher gave, if there was one.

    Precision belongs to the recipe and is set per forward pass: the launcher's is not used.

    Args:
        unused_parameters: see `Compute`.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    accelerator = Accelerator(
        # Accelerate joins processes on CPUs only where it is told to use the CPU.
        cpu=processes > 1 and not torch.accelerator.is_available(),
        mixed_precision="no",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused_parameters)],
    )
    if accelerator.num_processes != processes:
        # Each would take itself for the first and write to the same folder.
        raise InputError(
            "processes that are launched together must be able to train together",
            f"WORLD_SIZE={processes} on `{accelerator.device}`",
            "Start one process.",
        )
    return accelerator


def _publish(trainer: Trainer) -> None:
    """Write the trained component and mark the run as finished.

    It stays in fp32, even where the teacher is stored in fp16: what is exported and checked for
    parity later is then exactly what was validated here.
    """
    folder = trainer.folder
    drop_projections(trainer.ema.model)
    with writing(folder.result):
        save_model(trainer.ema.model, folder.result)
        finish(folder.path, folder.key, only=(folder.part,), steps=trainer.section.steps)
    # Of no more use: another number of steps is another key, which starts anew.
    folder.checkpoints.clear()
