"""The training loop that the teacher's three stages share.

A step is a pure function of the weights, the optimiser's state and the step
number. A killed run therefore continues from its last checkpoint with the same
numbers, bit for bit on a CPU.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgekd.errors import GateError, InputError
from edgekd.progress import Progress
from edgekd.teach.checkpoint import (
    CHECKPOINT_FILE,
    Keys,
    open_checkpoint,
    set_aside,
)
from edgekd.teach.log import METRICS_FILE, MetricsLog, Window
from edgekd.teach.muon import Muon
from edgekd.teach.ranks import Ranks
from edgekd.teach.recipe import TrainSection

BETAS = (0.9, 0.99)
# What the optimisers remember of each parameter.
MOMENTS: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.AdamW: ("exp_avg", "exp_avg_sq"),
    Muon: ("momentum_buffer",),
}


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


def rate_factor(number: int, section: TrainSection) -> float:
    """Share of the full learning rate at step `number` (from 0)."""
    factor = min(1.0, (number + 1) / max(1, section.warmup_steps))
    decay_steps = min(section.decay_steps, section.steps)
    into_decay = number - (section.steps - decay_steps)
    if into_decay > 0:
        factor *= 0.5 * (1 + math.cos(math.pi * into_decay / decay_steps))
    return factor


def ema_decay_at(number: int, decay: float) -> float:
    """Shorter memory at the start, when the first weights are still in it."""
    return min(decay, (1 + number) / (10 + number))


class Trainer:
    """Weights, averaged weights and optimisers of a task, and their checkpoint."""

    def __init__(self, task: Task, section: TrainSection, folder: Path, keys: Keys, ranks: Ranks):
        self.task, self.section, self.ranks, self.keys = task, section, ranks, keys
        self.folder = folder
        self.step = 0
        self.averaged = {name: copy.deepcopy(m).eval() for name, m in task.modules.items()}
        for module in self.averaged.values():
            module.requires_grad_(False)
        self._names: list[str] = []
        self._parameters: list[nn.Parameter] = []
        self._averages: list[Tensor] = []
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
            self._names += parameters
            self._parameters += parameters.values()
            self._averages += [p for _, p in self.averaged[name].named_parameters()]
        decay = section.weight_decay
        self._optimizers: list[torch.optim.Optimizer] = []
        if adamw:
            self._optimizers.append(
                torch.optim.AdamW(adamw, lr=1.0, betas=BETAS, weight_decay=decay, fused=True)
            )
        if muon:
            self._optimizers.append(Muon(muon, weight_decay=decay, ranks=ranks))
        device = self._parameters[0].device
        size = sum(p.numel() for p in self._parameters)
        # One buffer for all gradients: a single exchange per step, with the loss terms behind.
        self._gradients = torch.zeros(size, device=device)
        offset = 0
        for parameter in self._parameters:
            view = self._gradients[offset : offset + parameter.numel()]
            parameter.grad = view.view_as(parameter)
            offset += parameter.numel()

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
        self._check_finite(row)
        self._gradients.mul_((self.section.max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
        factor = rate_factor(self.step, self.section)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * factor
            optimizer.step()
        decay = self.section.ema_decay
        if not self.task.trained:
            decay = ema_decay_at(self.step, decay)
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, list[Tensor](self._parameters), 1 - decay)
        self.step += 1
        return {**row, "learning_rate": max(self.task.learning_rates.values()) * factor}

    def _check_finite(self, row: dict[str, float]) -> None:
        if all(math.isfinite(value) for value in row.values()):
            return
        checkpoint = self.folder / CHECKPOINT_FILE
        raise GateError(
            f"the {self.task.name} loss and its gradient must be finite",
            f"{row} at step {self.step}",
            f"The last good checkpoint is {checkpoint}." if checkpoint.is_file() else "",
        )

    def save(self) -> None:
        """Write the checkpoint whole or not at all."""
        from safetensors.torch import save_file

        tensors = {}
        for name, parameter, average in self._triples():
            tensors[f"model.{name}"] = parameter.detach()
            tensors[f"average.{name}"] = average
        for optimizer, name, parameter in self._steered():
            if parameter in optimizer.state:
                for moment in MOMENTS[type(optimizer)]:
                    tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
        path = self.folder / CHECKPOINT_FILE
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
            facts = {"step": str(self.step), "key": self.keys.structure}
            save_file(contiguous, temporary, {**facts, "settings": self.keys.settings})
            with open(temporary, "rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def restore(self) -> bool:
        """Load the checkpoint if there is one of the same structure.

        Raises:
            InputError: it is damaged, or of other settings with no step left to train by these.
        """
        path = self.folder / CHECKPOINT_FILE
        if not path.is_file():
            return False
        with open_checkpoint(path) as file:
            facts = file.metadata() or {}
            if facts.get("key") != self.keys.structure:
                return False
            self.step = int(facts["step"])
            if self.step >= self.section.steps and facts.get("settings") != self.keys.settings:
                raise InputError(
                    f"a run of other settings must leave steps of {self.task.name} to train",
                    f"step {self.step} of {self.section.steps} in {path}",
                    "Give it more steps, or pass another `--out`.",
                )
            with torch.no_grad():
                for name, parameter, average in self._triples():
                    parameter.copy_(file.get_tensor(f"model.{name}"))
                    average.copy_(file.get_tensor(f"average.{name}"))
            known = set(file.keys())
            for optimizer, name, parameter in self._steered():
                keys = {moment: f"{moment}.{name}" for moment in MOMENTS[type(optimizer)]}
                # What another optimiser has trained so far is new to this one.
                if known.issuperset(keys.values()):
                    step = torch.tensor(float(self.step), device=parameter.device)
                    moments = {m: file.get_tensor(k).to(step.device) for m, k in keys.items()}
                    optimizer.state[parameter] = {"step": step, **moments}
        return True

    def _steered(self) -> Iterator[tuple[torch.optim.Optimizer, str, nn.Parameter]]:
        """Each parameter with its name and the optimiser that steps it."""
        names = dict(zip(self._parameters, self._names, strict=True))
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    yield optimizer, names[parameter], parameter

    def _triples(self) -> Iterator[tuple[str, nn.Parameter, Tensor]]:
        return zip(self._names, self._parameters, self._averages, strict=True)


def run_task(
    task: Task,
    section: TrainSection,
    folder: Path,
    keys: Keys,
    ranks: Ranks,
    progress: Progress,
    checkpoint_minutes: float,
) -> dict[str, nn.Module]:
    """Train to the last step, from the checkpoint in `folder` if it is of this structure.

    Rank 0 writes `checkpoint.safetensors` and `metrics.jsonl`.

    Returns:
        The modules with averaged weights, in eval mode.

    Raises:
        GateError: the loss or its gradient is not finite.
        InputError: as `Trainer.restore`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(task, section, folder, keys, ranks)
    restored = trainer.restore()
    # Rank 0 may write or move a checkpoint only after all have read.
    ranks.wait()
    if ranks.first and not restored:
        set_aside(folder, progress)
    log = (
        MetricsLog(folder / METRICS_FILE, trainer.step if restored else 0) if ranks.first else None
    )
    if restored:
        progress.info(f"{task.name}: continuing at step {trainer.step} of {section.steps}")
    saved, rows = time.monotonic(), Window()
    with progress.track(task.name, section.steps) as advance:
        advance(trainer.step, resumed=True)
        while trainer.step < section.steps:
            number = trainer.step
            rows.add(trainer.train_step(), step_at(number, section, ranks).batch_size)
            advance(1)
            last = trainer.step == section.steps
            if log is None or not (last or trainer.step % section.log_every == 0):
                continue
            log.write({"step": trainer.step, **rows.close()})
            if last or trainer.step % section.validate_every == 0:
                log.write({"step": trainer.step, **task.validate(trainer.averaged)})
            if last or time.monotonic() - saved >= 60 * checkpoint_minutes:
                trainer.save()
                saved = time.monotonic()
            task.watch(trainer.averaged, trainer.step)
            rows.restart_clock()
    return trainer.averaged
