"""One phase of a distillation, from its settings to the folder of a trained model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edgekd.artifacts import TrainedPart, Trajectories
from edgekd.distill.decoder import DecoderMatching
from edgekd.distill.few_step import Drawn
from edgekd.distill.folder import RunFolder
from edgekd.distill.kd import unused_parameters
from edgekd.distill.lesson import Lesson
from edgekd.distill.lessons import few_step_lesson, kd_lesson
from edgekd.distill.sources import Source, Sources
from edgekd.distill.text_encoder import TextMatching
from edgekd.distill.trainer import WHOLE_PHASES, Trainer
from edgekd.distill.trajectories import draw_trajectories
from edgekd.errors import InputError
from edgekd.file_record import finish
from edgekd.files import writing
from edgekd.folders import finished
from edgekd.progress import Progress, Silent
from edgekd.recipe_distill import DistillSection, LoopSection
from edgekd.student.arch import StudentArch
from edgekd.student.build import save_model
from edgekd.training.cpu import training_cpu
from edgekd.training.log import METRICS_FILE
from edgekd.training.sharding import check_sharded_launch, quiet_launch, rank


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
        # A process that was killed as it finished has left them.
        if rank() == 0:
            folder.checkpoints.clear()
        return result
    with training_cpu(compute.threads):
        accelerator = make_accelerator(compute.unused_parameters)
        lesson = make_lesson(accelerator)
        trainer = Trainer(section, lesson, folder, accelerator)
        trainer.run(progress if accelerator.is_main_process else Silent())
        average = trainer.average()
        if accelerator.is_main_process:
            _publish(trainer, average)
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
        return kd_lesson(section, arch, _load(source, accelerator), accelerator)

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
        sources, kept = _load(source, accelerator), places.trajectories

        def drawn() -> Drawn:
            if accelerator.is_main_process:
                draw_trajectories(section, sources, kept, progress)
            # Polled: a collective operation would time out.
            while finished(kept.root, kept.key) is None:
                time.sleep(1.0)
            return Drawn.load(kept)

        student = load_student(sources)
        return few_step_lesson(section, student, sources, drawn, accelerator)

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
        generated = None if drawn is None else Drawn.load(drawn)
        return DecoderMatching(section, _load(source, accelerator), generated, accelerator)

    return train(section.decoder, make, folder, Compute(section.threads), progress)


def train_text_encoder(
    section: DistillSection, source: Source, folder: RunFolder, progress: Progress
) -> TrainedPart:
    """The phase `text_encoder`: see `edgekd.distill.text_encoder`, and `train`."""

    def make(accelerator: Any) -> Lesson:
        return TextMatching(section, _load(source, accelerator), accelerator)

    return train(section.text_encoder, make, folder, Compute(section.threads), progress)


def _load(source: Source, accelerator: Any) -> Sources:
    sources = source.load(accelerator.device)
    sources.check()
    return sources


def check_shared_students(section: DistillSection) -> None:
    """Refuse what processes that share a model cannot train.

    Raises:
        InputError: see `check_sharded_launch`; or the last layers would get no gradient; or what
            knows no parts of weights.
    """
    check_sharded_launch()
    loops = [section.loop(phase) for phase in section.phases if phase not in WHOLE_PHASES]
    if section.compile or any(loop.optimizer != "adamw" for loop in loops):
        raise InputError(
            "`distill.compile` must be off, and `optimizer` adamw, where processes share a model "
            "(FSDP)",
            f"compile: {section.compile}, {', '.join(loop.optimizer for loop in loops)}",
        )
    if "kd" in section.phases and unused_parameters(section):
        # torch gathers a layer's weights for its backward pass when its output gets a gradient.
        raise InputError(
            "`distill.losses` must have a term of the prediction where processes share a model "
            "(FSDP)",
            ", ".join(section.losses.weights),
        )


def make_accelerator(unused_parameters: bool = False) -> Any:
    """An `Accelerator` on the devices and processes that a launcher gave, if there was one.

    Precision belongs to the recipe and is set per forward pass: the launcher's is not used.

    Args:
        unused_parameters: see `Compute`.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    handler = DistributedDataParallelKwargs(find_unused_parameters=unused_parameters)
    with quiet_launch():
        accelerator = Accelerator(
            # Accelerate joins processes on CPUs only where it is told to use the CPU.
            cpu=processes > 1 and not torch.accelerator.is_available(),
            mixed_precision="no",
            kwargs_handlers=[handler],
        )
    if accelerator.num_processes != processes:
        # Each would take itself for the first and write to the same folder.
        raise InputError(
            "processes that are launched together must be able to train together",
            f"WORLD_SIZE={processes} on `{accelerator.device}`",
            "Start one process.",
        )
    return accelerator


def _publish(trainer: Trainer, average: nn.Module) -> None:
    """Write the trained component and mark the run as finished.

    It stays in fp32, even where the teacher is stored in fp16: what is exported and checked for
    parity later is then exactly what was validated here.
    """
    folder = trainer.folder
    with writing(folder.result):
        save_model(trainer.lesson.result(average), folder.result)
        finish(folder.path, folder.key, only=(folder.part,), steps=trainer.section.steps)
    # Of no more use: another number of steps is another key, which starts anew.
    folder.checkpoints.clear()
