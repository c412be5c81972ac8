"""One phase of a distillation, from its settings to the folder of a trained model."""

from __future__ import annotations

import datetime
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
from edgekd.training.sharding import check_sharded_launch, launched, quiet_launch, rank

# Of the other processes in their next step, while the first validates and draws alone.
_PATIENCE = datetime.timedelta(hours=2)


@dataclass(frozen=True)
class FewStepPlaces:
    """Where the phase `few_step` keeps what it makes."""

    folder: RunFolder
    trajectories: Trajectories


def train(
    section: LoopSection,
    make_lesson: Callable[[Any], Lesson],
    folder: RunFolder,
    threads: int,
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
        threads: of torch on a CPU; 0: torch's default.

    Raises:
        InputError: the lesson's own; see `RunFolder.check_processes`; or a folder that is full or
            not writable.
        GateError: a loss term or the gradient is not finite.
    """
    result = TrainedPart(folder.result, folder.key, folder.path / METRICS_FILE)
    if finished(folder.path, folder.key, progress.info) is not None:
        # A process that was killed as it finished has left them.
        if rank() == 0:
            folder.checkpoints.clear()
        return result
    if rank() == 0:
        folder.check_processes(launched())
    with training_cpu(threads):
        accelerator = make_accelerator()
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

    return train(section, make, folder, section.threads, progress)


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
        sources = _load(source, accelerator)

        def drawn() -> Drawn:
            return _drawn(section, sources, places.trajectories, accelerator, progress)

        student = load_student(sources)
        return few_step_lesson(section, student, sources, drawn, accelerator)

    return train(section.few_step, make, places.folder, section.threads, progress)


def train_decoder(
    section: DistillSection,
    source: Source,
    drawn: Trajectories | None,
    folder: RunFolder,
    progress: Progress,
) -> TrainedPart:
    """The phase `decoder`: see `edgekd.distill.decoder`, and `train` for what it writes.

    Args:
        drawn: trajectories, whose last latents are learnt from too; what is lost or damaged of
            them is drawn again.
    """

    def make(accelerator: Any) -> Lesson:
        sources, generated = _load(source, accelerator), None
        if drawn is not None:
            generated = _drawn(section, sources, drawn, accelerator, progress)
        return DecoderMatching(section, sources, generated, accelerator)

    return train(section.decoder, make, folder, section.threads, progress)


def train_text_encoder(
    section: DistillSection, source: Source, folder: RunFolder, progress: Progress
) -> TrainedPart:
    """The phase `text_encoder`: see `edgekd.distill.text_encoder`, and `train`."""

    def make(accelerator: Any) -> Lesson:
        return TextMatching(section, _load(source, accelerator), accelerator)

    return train(section.text_encoder, make, folder, section.threads, progress)


def _drawn(
    section: DistillSection,
    sources: Sources,
    kept: Trajectories,
    accelerator: Any,
    progress: Progress,
) -> Drawn:
    """The teacher's trajectories, which the first process draws if they are not there."""
    if accelerator.is_main_process:
        draw_trajectories(section, sources, kept, progress)
    # Polled: a collective operation would time out.
    while finished(kept.root, kept.key) is None:
        time.sleep(1.0)
    return Drawn.load(kept)


def _load(source: Source, accelerator: Any) -> Sources:
    sources = source.load(accelerator.device)
    sources.check()
    return sources


def check_shared_students(section: DistillSection) -> None:
    """Refuse what processes that share a model cannot train.

    Raises:
        InputError: see `check_sharded_launch`; or what knows no parts of weights.
    """
    check_sharded_launch()
    loops = [section.loop(phase) for phase in section.phases if phase not in WHOLE_PHASES]
    if section.compile or any(loop.optimizer != "adamw" for loop in loops):
        raise InputError(
            "`distill.compile` must be off, and `optimizer` adamw, where processes share a model "
            "(FSDP)",
            f"compile: {section.compile}, {', '.join(loop.optimizer for loop in loops)}",
        )


def make_accelerator() -> Any:
    """An `Accelerator` on the devices and processes that a launcher gave, if there was one.

    Precision belongs to the recipe and is set per forward pass: the launcher's is not used.
    """
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    processes, patience = launched(), InitProcessGroupKwargs(timeout=_PATIENCE)
    with quiet_launch():
        accelerator = Accelerator(
            # Accelerate joins processes on CPUs only where it is told to use the CPU.
            cpu=processes > 1 and not torch.accelerator.is_available(),
            mixed_precision="no",
            kwargs_handlers=[patience],
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
        facts = {"steps": trainer.section.steps, "processes": launched()}
        finish(folder.path, folder.key, only=(folder.part,), **facts)
    # Of no more use: another number of steps is another key, which starts anew.
    folder.checkpoints.clear()
