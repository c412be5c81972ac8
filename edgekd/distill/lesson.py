"""What a student is taught in one phase: all that differs between the phases' loops."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

if TYPE_CHECKING:
    from edgekd.diffusion.load import Teacher
    from edgekd.distill.sampling import Sheet
    from edgekd.distill.setup import PhaseSetup
    from edgekd.recipe_distill import PhaseName


class Lesson(Protocol):
    """One phase of a student's training.

    Attributes:
        phase: which one.
        model: what learns, trainable and in evaluation mode, on its device.
        updates: optimiser updates of one step.
        teacher: whose passes count as its own in what a step takes.
        beside: networks that run beside `model` and its teacher, by name: a target, or what learns
            with an optimiser of its own.
    """

    @property
    def phase(self) -> PhaseName: ...
    @property
    def model(self) -> nn.Module: ...
    @property
    def updates(self) -> int: ...
    @property
    def teacher(self) -> Teacher: ...
    @property
    def beside(self) -> Mapping[str, nn.Module]: ...

    def attached(self, wrapped: nn.Module, average: nn.Module) -> AbstractContextManager[None]:
        """Teach this model, wrapped for several processes or not, until the context is left.

        Args:
            average: the one that is validated and drawn with.
        """

    def weights_at(self, step: int) -> Mapping[str, float]:
        """Weight of each term in the loss of step `step` (from 0)."""

    def terms(self, step: int, update: int, micro: int) -> dict[str, Tensor]:
        """Raw value of each term of `weights_at` for a micro-batch: scalars with gradients.

        A pure function of the weights of the model and of its average, of `state` and of the
        arguments, but for what it made of the same step's earlier updates.
        """

    def state(self) -> Mapping[str, Tensor]:
        """What further steps depend on besides the weights: saved with them, empty for most."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Losses on held-out samples; names begin with `validation`."""

    def describe(self, losses: Mapping[str, float]) -> str:
        """What `validate` found, for people."""

    def draw(self, model: nn.Module, last: bool) -> Sheet:
        """A sample sheet; `last`: of the training, with all that there is to see.

        The first two rows are the teacher's and the student's on each of them.
        """

    def result(self, average: nn.Module) -> Any:
        """What is kept of the averaged model: a model of diffusers, or several."""


class Plain:
    """A `Lesson` of one update a step, that learns alone, remembers nothing and keeps all of its
    model."""

    updates = 1
    _setup: PhaseSetup

    @property
    def teacher(self) -> Teacher:
        """See `Lesson`."""
        return self._setup.sources.teacher

    @property
    def beside(self) -> Mapping[str, nn.Module]:
        """See `Lesson`."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """See `Lesson`."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See `Lesson`."""

    def result(self, average: nn.Module) -> Any:
        """See `Lesson`."""
        return average


class Matching(Plain):
    """A `Plain` whose terms keep their weights; `_wrapped` is what it teaches."""

    _weights: Mapping[str, float]
    _wrapped: nn.Module

    @contextlib.contextmanager
    def attached(self, wrapped: nn.Module, average: nn.Module) -> Iterator[None]:
        """See `Lesson`."""
        del average
        self._wrapped = wrapped
        yield

    def weights_at(self, step: int) -> Mapping[str, float]:
        """See `Lesson`."""
        return self._weights
