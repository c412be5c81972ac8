"""What optimisation steps take on the device at hand: time and memory of each of their parts.

Any `Lesson` is measured: the parts are told apart by hooks on the teacher's models, on what learns
and on the optimisers, not by what the lesson does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
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
    from edgekd.distill.lesson import Lesson
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
    """Bytes of tensors that stay between steps or are as large as a model; counted.

    Attributes:
        beside: weights, gradients and optimisers of what learns beside the student.
    """

    teacher: int
    student: int
    gradients: int
    optimiser: int
    average: int
    beside: int

    @property
    def total(self) -> int:
        student = self.student + self.gradients + self.optimiser + self.average
        return self.teacher + student + self.beside


@dataclass(frozen=True)
class StepCost:
    """One step, with all its updates, of one micro-batch.

    Attributes:
        seconds: of the whole step.
        parts: in the order of work; a step of several updates has their sum.
        working_bytes: what forward and backward needed beside `held`: activations, the kernels'
            own memory, and under autocast a copy of the student's weights.
        beside_working_bytes: the same of an update of what learns beside the student; 0: nothing
            does.
    """

    device: str
    seconds: float
    parts: dict[str, PartCost]
    held: HeldBytes
    working_bytes: int
    beside_working_bytes: int

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
    # Peaks since the last update.
    recent: dict[str, int] = field(default_factory=dict)
    gap: str = BATCH
    since: float = 0.0
    # Memory in use at the start.
    before: int = 0

    def start(self) -> None:
        self.before = self._used()
        self._forget()
        self.since = time.perf_counter()

    def lap(self, part: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self.since
        peak = self._peak()
        for peaks in (self.peaks, self.recent):
            peaks[part] = max(peaks.get(part, 0), peak)
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

    def update_ends(self) -> None:
        self.lap(OPTIMISER)
        self.recent.clear()
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


@dataclass
class _Update:
    """The first update of one optimiser, in bytes.

    Attributes:
        weights: of all that it trains.
        working: what forward and backward needed beside all that was held.
    """

    weights: int
    gradients: int
    working: int
    optimiser: int = 0

    @property
    def held(self) -> int:
        return self.weights + self.gradients + self.optimiser


@dataclass
class _Updates:
    """First updates, by their optimiser, in the order of work."""

    found: dict[torch.optim.Optimizer, _Update] = field(default_factory=dict)

    def begins(self, optimiser: torch.optim.Optimizer, laps: _Laps) -> None:
        if optimiser in self.found:
            return
        learned = _learned(optimiser)
        gradients = _bytes(p.grad for p in learned if p.grad is not None)
        forward = max((p for part, p in laps.recent.items() if part != BACKWARD), default=0)
        # Gradients grow while activations are freed: what is left is a lower bound.
        backward = laps.recent[BACKWARD] - gradients
        grown = sum(other.gradients + other.optimiser for other in self.found.values())
        working = max(0, max(forward, backward) - laps.before - grown)
        self.found[optimiser] = _Update(_bytes(learned), gradients, working)

    def ends(self, optimiser: torch.optim.Optimizer) -> None:
        states = [value for state in optimiser.state.values() for value in state.values()]
        self.found[optimiser].optimiser = _bytes(v for v in states if torch.is_tensor(v))

    def of(self, model: nn.Module) -> tuple[_Update, list[_Update]]:
        """A model's, and all others."""
        own = {id(parameter) for parameter in model.parameters()}
        is_own = {o: any(id(p) in own for p in _learned(o)) for o in self.found}
        (update,) = (self.found[optimiser] for optimiser, yes in is_own.items() if yes)
        return update, [self.found[optimiser] for optimiser, yes in is_own.items() if not yes]


def with_cost(step: Callable[[], dict[str, float]], lesson: Lesson) -> dict[str, float]:
    """A step's row of the log, with the seconds of its parts (`<part>_s`) and its peak memory.

    `peak_bytes` is torch's on a GPU, on a CPU the whole process's.
    """
    laps = _Laps(lesson.teacher.device)
    with _hooks(laps, _Updates(), lesson):
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
    laps, updates, lesson = _Laps(trainer.accelerator.device), _Updates(), trainer.lesson
    # Attached, a lesson knows its target.
    with trainer.attached(), _hooks(laps, updates, lesson):
        laps.start()
        trainer.try_step()
        laps.lap(AVERAGE)
    own, others = updates.of(trainer.student)
    held = HeldBytes(
        teacher=sum(_bytes(model.parameters()) for model in _models(lesson.teacher)),
        student=_bytes(trainer.student.parameters()),
        gradients=own.gradients,
        optimiser=own.optimiser,
        average=_bytes(trainer.ema.model.parameters()),
        beside=sum(other.held for other in others),
    )
    beside = (f"{name} forward" for name in lesson.beside)
    order = (BATCH, TEACHER, *beside, STUDENT, BACKWARD, OPTIMISER, AVERAGE)
    return StepCost(
        device=str(trainer.accelerator.device),
        seconds=sum(laps.seconds.values()),
        parts={
            part: PartCost(laps.seconds[part], laps.peaks[part])
            for part in order
            if part in laps.seconds
        },
        held=held,
        working_bytes=own.working,
        beside_working_bytes=max((other.working for other in others), default=0),
    )


@contextlib.contextmanager
def _hooks(laps: _Laps, updates: _Updates, lesson: Lesson) -> Iterator[None]:
    def before_forward(*_: Any) -> None:
        laps.forward_begins()

    def before_update(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        laps.update_begins()
        updates.begins(optimiser, laps)

    def after_update(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        laps.update_ends()
        updates.ends(optimiser)

    with contextlib.ExitStack() as stack:
        for part, models in _called(lesson).items():

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


def _called(lesson: Lesson) -> Mapping[str, list[nn.Module]]:
    """Modules that are called as such, by the part of a step: of a VAE, its halves."""
    teacher = lesson.teacher
    return {
        STUDENT: [lesson.model],
        TEACHER: [teacher.unet, teacher.vae.encoder, teacher.vae.decoder, *teacher.text_encoders],
        **{f"{name} forward": [model] for name, model in lesson.beside.items()},
    }


def _learned(optimiser: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
