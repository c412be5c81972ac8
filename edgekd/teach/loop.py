"""The training loop that the teacher's three stages share.

A step is a pure function of the weights, the optimiser's state and the step
number. A killed run therefore continues from its last checkpoint with the same
numbers, bit for bit on a CPU.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgekd.errors import GateError, InputError
from edgekd.progress import Progress
from edgekd.teach.muon import Muon
from edgekd.teach.ranks import Ranks
from edgekd.teach.recipe import TrainSection
from edgekd.training.checkpoint import (
    CHECKPOINTS,
    Checkpoint,
    Checkpoints,
    Tensors,
    load_optimizers,
    load_weights,
    optimizer_tensors,
    set_aside,
)
from edgekd.training.ema import decay_at, follow
from edgekd.training.log import MetricsLog, Window
from edgekd.training.schedule import RateSchedule

BETAS = (0.9, 0.99)


class Keys(NamedTuple):
    """What a stage's training is known by.

    Attributes:
        structure: hash of what a checkpoint must share to go on from it.
        settings: hash of all that decides the stage's result.
    """

    structure: str
    settings: str


@dataclass(frozen=True)
class Place:
    """Where a task is trained, and by whom.

    Attributes:
        folder: rank 0 writes `checkpoints/` and `metrics.jsonl` in it.
    """

    folder: Path
    keys: Keys
    ranks: Ranks
    progress: Progress
    checkpoint_minutes: float

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder / CHECKPOINTS, self.keys.structure)


class Step(NamedTuple):
    """What a loss function gets: the number, and this rank's positions in the sample stream."""

    number: int
    batch_size: int  # over all ranks
    slots: slice  # this rank's part of the batch
    positions: npt.NDArray[np.int64]  # of this rank's samples, counted from the run's start


LossFunction = Callable[[Step], tuple[Tensor, dict[str, Tensor]]]


@dataclass
class Task:
    """One stage of training.

    `trained` modules are worth remembering: their averages keep a full memory from the start.
    `loss` returns the loss and its terms, averaged over this rank's samples;
    `validate(averaged)` returns figures for `metrics.jsonl`; `watch(averaged, step)`
    is called at every row on rank 0, for sample sheets. Muon steps the parameters of `matrices`,
    named `module.parameter`, AdamW all others.
    """

    name: str
    modules: dict[str, nn.Module]
    learning_rates: dict[str, float]  # per module; 0: frozen
    loss: LossFunction
    validate: Callable[[dict[str, nn.Module]], dict[str, float]]
    watch: Callable[[dict[str, nn.Module], int], None] = lambda averaged, step: None
    trained: bool = False
    matrices: frozenset[str] = frozenset()


def step_at(number: int, section: TrainSection, ranks: Ranks) -> Step:
    """Step `number` (from 0): its batch size by phase and its place in the sample stream."""
    start, first = 0, 0
    for phase in section.phases:
        if number < first + phase.steps or phase is section.phases[-1]:
            start += (number - first) * phase.batch_size
            break
        start += phase.steps * phase.batch_size
        first += phase.steps
    slots = ranks.slice_of(phase.batch_size)
    return Step(number, phase.batch_size, slots, np.arange(start + slots.start, start + slots.stop))


def rate_schedule(section: TrainSection) -> RateSchedule:
    """Share of the full learning rate: warm-up, constant, cosine to zero at the end."""
    fall = min(section.decay_steps, section.steps)
    return RateSchedule(1.0, section.warmup_steps, section.steps - fall, fall)


class StageTrainer:
    """Weights, averaged weights and optimisers of a task, and their checkpoint."""

    def __init__(self, task: Task, section: TrainSection, place: Place):
        self.task, self.section, self.place, self.ranks = task, section, place, place.ranks
        self.step = 0
        self._last: Checkpoint | None = None
        self._rates = rate_schedule(section)
        self.averaged = {name: copy.deepcopy(m).eval() for name, m in task.modules.items()}
        for module in self.averaged.values():
            module.requires_grad_(False)
        self._parameters: dict[str, nn.Parameter] = {}
        self._averages: dict[str, Tensor] = {}
        adamw: list[dict[str, Any]] = []
        muon: list[dict[str, Any]] = []
        for name, module in task.modules.items():
            if task.learning_rates[name] == 0:
                module.requires_grad_(False).eval()
                continue
            parameters = {f"{name}.{n}": p for n, p in module.named_parameters()}
            for groups, of_muon in ((adamw, False), (muon, True)):
                chosen = [p for n, p in parameters.items() if (n in task.matrices) == of_muon]
                if chosen:
                    groups.append({"params": chosen, "rate": task.learning_rates[name]})
            self._parameters |= parameters
            averages = self.averaged[name].named_parameters()
            self._averages |= {f"{name}.{n}": p for n, p in averages}
        decay = section.weight_decay
        self._optimizers: list[torch.optim.Optimizer] = []
        if adamw:
            self._optimizers.append(
                torch.optim.AdamW(adamw, lr=1.0, betas=BETAS, weight_decay=decay, fused=True)
            )
        if muon:
            self._optimizers.append(Muon(muon, weight_decay=decay, ranks=self.ranks))
        trained = list(self._parameters.values())
        sizes = [p.numel() for p in trained]
        # One buffer for all gradients: a single exchange per step, with the loss terms behind.
        self._gradients = torch.zeros(sum(sizes), device=trained[0].device)
        for parameter, view in zip(trained, torch.split(self._gradients, sizes), strict=True):
            parameter.grad = view.view_as(parameter)

    def train_step(self) -> dict[str, float]:
        """One optimiser step; returns the loss and its terms over all ranks."""
        step = step_at(self.step, self.section, self.ranks)
        self._gradients.zero_()
        loss, terms = self.task.loss(step)
        loss.backward()  # type: ignore[no-untyped-call]
        values = torch.stack([loss.detach(), *(t.detach() for t in terms.values())]).double()
        self.ranks.average(self._gradients)
        self.ranks.average(values)
        norm = self._gradients.norm()
        row = dict(zip(["loss", *terms, "grad_norm"], [*values.tolist(), float(norm)], strict=True))
        self.check_finite(row)
        self._gradients.mul_((self.section.max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
        factor = self._rates.at(self.step)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * factor
            optimizer.step()
        decay = self.section.ema_decay
        if not self.task.trained:
            decay = decay_at(self.step, decay)
        follow(list(self._averages.values()), list(self._parameters.values()), decay)
        self.step += 1
        return {**row, "learning_rate": max(self.task.learning_rates.values()) * factor}

    def check_finite(self, row: dict[str, float]) -> None:
        """Stop before a value that is not finite reaches a weight.

        Raises:
            GateError: with the step and the last good checkpoint.
        """
        if all(math.isfinite(value) for value in row.values()):
            return
        raise GateError(
            f"the {self.task.name} loss and its gradient must be finite",
            f"{row} at step {self.step}",
            f"The last good checkpoint is {self._last.path}." if self._last else "",
        )

    def save(self) -> None:
        """Write a checkpoint whole or not at all."""
        groups: dict[str, Tensors] = {
            "model": self._parameters,
            "average": self._averages,
            "optimizer": optimizer_tensors(self._parameters, *self._optimizers),
        }
        self._last = self.place.checkpoints.save(self.step, groups, self.place.keys.settings)

    def restore(self) -> bool:
        """Load the newest intact checkpoint if there is one of the same structure.

        Raises:
            InputError: it is of other settings, and leaves no step to train by these.
        """
        last = self._last = self.place.checkpoints.latest(self.place.progress)
        if last is None:
            return False
        self.step = last.step
        if self.step >= self.section.steps and last.settings != self.place.keys.settings:
            raise InputError(
                f"a run of other settings must leave steps of {self.task.name} to train",
                f"step {self.step} of {self.section.steps} in {last.path}",
                "Give it more steps, or pass another `--out`.",
            )
        load_weights(self._parameters, last.load("model"))
        load_weights(self._averages, last.load("average"))
        load_optimizers(self._parameters, last.load("optimizer"), *self._optimizers)
        return True


def run_task(task: Task, section: TrainSection, place: Place) -> dict[str, nn.Module]:
    """Train to the last step, from the newest intact checkpoint of this structure.

    Returns:
        The modules with averaged weights, in eval mode.

    Raises:
        GateError: the loss, its gradient or a figure of validation is not finite.
        InputError: as `StageTrainer.restore`.
    """
    progress = place.progress
    place.folder.mkdir(parents=True, exist_ok=True)
    trainer = StageTrainer(task, section, place)
    restored = trainer.restore()
    # Rank 0 may write or move a checkpoint only after all have read.
    place.ranks.wait()
    if restored:
        progress.info(f"{task.name}: continuing at step {trainer.step} of {section.steps}")
    with contextlib.ExitStack() as stack:
        log = None
        if place.ranks.first:
            if not restored:
                set_aside(place.folder, progress)
            log = stack.enter_context(MetricsLog(place.folder, trainer.step if restored else -1))
        advance = stack.enter_context(progress.track(task.name, section.steps))
        advance(trainer.step, resumed=True)
        saved, rows = time.monotonic(), Window()
        while trainer.step < section.steps:
            number = trainer.step
            rows.add(trainer.train_step(), step_at(number, section, place.ranks).batch_size)
            advance(1)
            last = trainer.step == section.steps
            if log is None or not (last or trainer.step % section.log_every == 0):
                continue
            log.write({"step": trainer.step, **rows.close()})
            if last or trainer.step % section.validate_every == 0:
                figures = task.validate(trainer.averaged)
                trainer.check_finite(figures)
                log.write({"step": trainer.step, **figures})
            if last or time.monotonic() - saved >= 60 * place.checkpoint_minutes:
                log.flush()
                trainer.save()
                saved = time.monotonic()
            task.watch(trainer.averaged, trainer.step)
            rows.restart_clock()
    return trainer.averaged
