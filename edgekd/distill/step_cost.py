"""What optimisation steps take on the device at hand: time and memory of each of their parts.

Any `Lesson` is measured: the parts are told apart by hooks on the teacher's models, on the student
and on the optimiser, not by what the lesson does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from edgekd.diffusion.load import Teacher
from edgekd.measure.memory import forget_peak, peak_resident_bytes, resident_bytes

if TYPE_CHECKING:
    from edgekd.distill.trainer import Trainer

BATCH, TEACHER, STUDENT = "batch", "teacher forward", "student forward"
BACKWARD, OPTIMISER, AVERAGE = "losses and backward", "optimiser", "EMA"


@dataclass(frozen=True)
class PartCost:
    """One part of a step: its seconds, and the memory of the whole process at its highest."""

    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class HeldBytes:
    """Bytes of tensors that stay between steps or are as large as the student; counted."""

    teacher: int
    student: int
    gradients: int
    optimiser: int
    average: int

    @property
    def total(self) -> int:
        return self.teacher + self.student + self.gradients + self.optimiser + self.average


@dataclass(frozen=True)
class StepCost:
    """One step, with all its updates, of one micro-batch.

    Attributes:
        seconds: of the whole step.
        parts: in the order of work; a step of several updates has their sum.
        working_bytes: what forward and backward needed beside `held`: activations, the kernels'
            own memory, and under autocast a copy of the student's weights.
    """

    device: str
    seconds: float
    parts: dict[str, PartCost]
    held: HeldBytes
    working_bytes: int

    @property
    def peak_bytes(self) -> int:
        """Of the process, Python and its libraries included where the device is a CPU."""
        return max(part.peak_bytes for part in self.parts.values())


@dataclass
class _Laps:
    """Time and peak memory since the last lap, added to a part."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)
    # Of the parts before the first update, when there is no optimiser state yet.
    first: dict[str, int] = field(default_factory=dict)
    gap: str = BATCH
    since: float = 0.0

    def start(self) -> int:
        """Begin to count; returns the memory in use."""
        used = self._used()
        self._forget()
        self.since = time.perf_counter()
        return used

    def lap(self, part: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self.since
        self.peaks[part] = max(self.peaks.get(part, 0), self._peak())
        self._forget()
        self.since = time.perf_counter()

    def forward_begins(self) -> None:
        # Losses between two forward passes are counted as the batch's: they are small.
        self.lap(self.gap if self.gap == AVERAGE else BATCH)

    def forward_ends(self, part: str) -> None:
        self.lap(part)
        self.gap = BACKWARD

    def update_begins(self) -> None:
        self.lap(BACKWARD)
        self.first = self.first or dict(self.peaks)

    def update_ends(self) -> None:
        self.lap(OPTIMISER)
        self.gap = AVERAGE

    def _used(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        return resident_bytes()

    def _peak(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return peak_resident_bytes()

    def _forget(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            forget_peak()


def with_cost(
    step: Callable[[], dict[str, float]], student: nn.Module, teacher: Teacher
) -> dict[str, float]:
    """A step's row of the log, with the seconds of its parts (`<part>_s`) and its peak memory.

    `peak_bytes` is torch's on a GPU, on a CPU the whole process's.
    """
    laps = _Laps(teacher.device)
    with _hooks(laps, _Seen(), student, teacher):
        laps.start()
        row = step()
        laps.lap(AVERAGE)
    parts = {f"{part.replace(' ', '_')}_s": value for part, value in laps.seconds.items()}
    return {**row, **parts, "peak_bytes": max(laps.peaks.values())}


def measure_step(trainer: Trainer) -> StepCost:
    """Do the first step of a student in training and measure it; nothing is written.

    Raises:
        GateError: a term or the gradient is not finite.
    """
    laps, seen, teacher = _Laps(trainer.accelerator.device), _Seen(), trainer.lesson.teacher
    with _hooks(laps, seen, trainer.student, teacher):
        before = laps.start()
        trainer.try_step()
        laps.lap(AVERAGE)
    held = HeldBytes(
        teacher=sum(_bytes(model.parameters()) for model in _models(teacher)),
        student=_bytes(trainer.student.parameters()),
        gradients=_bytes(p.grad for p in trainer.student.parameters() if p.grad is not None),
        optimiser=seen.optimiser_bytes,
        average=_bytes(trainer.ema.model.parameters()),
    )
    forward = max(peak for part, peak in laps.first.items() if part != BACKWARD)
    # Gradients grow while activations are freed: what is left is a lower bound.
    backward = laps.first[BACKWARD] - held.gradients
    return StepCost(
        device=str(trainer.accelerator.device),
        seconds=sum(laps.seconds.values()),
        parts={
            part: PartCost(laps.seconds[part], laps.peaks[part])
            for part in (BATCH, TEACHER, STUDENT, BACKWARD, OPTIMISER, AVERAGE)
            if part in laps.seconds
        },
        held=held,
        working_bytes=max(0, max(forward, backward) - before),
    )


@dataclass
class _Seen:
    optimiser_bytes: int = 0


@contextlib.contextmanager
def _hooks(laps: _Laps, seen: _Seen, student: nn.Module, teacher: Teacher) -> Iterator[None]:
    def before_forward(*_: Any) -> None:
        laps.forward_begins()

    def before_update(*_: Any) -> None:
        laps.update_begins()

    def after_update(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        laps.update_ends()
        states = [value for state in optimiser.state.values() for value in state.values()]
        seen.optimiser_bytes = _bytes(value for value in states if torch.is_tensor(value))

    with contextlib.ExitStack() as stack:
        for part, models in ((STUDENT, [student]), (TEACHER, _called(teacher))):

            def after_forward(*_: Any, part: str = part) -> None:
                laps.forward_ends(part)

            for model in models:
                stack.callback(model.register_forward_pre_hook(before_forward).remove)
                stack.callback(model.register_forward_hook(after_forward).remove)
        stack.callback(register_optimizer_step_pre_hook(before_update).remove)
        stack.callback(register_optimizer_step_post_hook(after_update).remove)
        yield


def _models(teacher: Teacher) -> list[nn.Module]:
    return [teacher.unet, teacher.vae, *teacher.text_encoders]


def _called(teacher: Teacher) -> list[nn.Module]:
    """The teacher's modules that are called as such: of a VAE, its halves."""
    return [teacher.unet, teacher.vae.encoder, teacher.vae.decoder, *teacher.text_encoders]


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
