"""What a loss term is, and what it sees of a batch.

Shapes: B batch, [B, C, h, w] predictions and feature maps, [B] per-sample values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from edgekd.diffusion.taps import TapValue
from edgekd.student.arch import StudentArch


@dataclass(frozen=True)
class Pair:
    """Points of the two U-Nets that mean the same: see `edgekd.diffusion.taps`."""

    student: str
    teacher: str


@dataclass(frozen=True)
class Tapped:
    """What both U-Nets had at a pair of points."""

    student: TapValue
    teacher: TapValue

    def features(self) -> tuple[Tensor, Tensor]:
        """Feature maps of the student and of the teacher.

        Raises:
            TypeError: the points are attentions.
        """
        if not isinstance(self.student, Tensor) or not isinstance(self.teacher, Tensor):
            raise TypeError("features are tapped at blocks and layers, not at attentions")
        return self.student, self.teacher


@dataclass(frozen=True)
class Forward:
    """What both U-Nets made of one batch, as one term sees it.

    Attributes:
        prediction: [B, C, h, w] the student's.
        target: [B, C, h, w] what a perfect U-Net predicts.
        weights: [B] min-SNR weights.
        taught: [B, C, h, w] the teacher's prediction; None where no term needs it.
        tapped: at the term's own pairs of points, in their order.
    """

    prediction: Tensor
    target: Tensor
    weights: Tensor
    taught: Tensor | None = None
    tapped: Sequence[Tapped] = ()

    @property
    def teacher_prediction(self) -> Tensor:
        """[B, C, h, w].

        Raises:
            ValueError: the term did not say that it needs the teacher.
        """
        if self.taught is None:
            raise ValueError("a term that looks at the teacher must have `needs_teacher`")
        return self.taught


@runtime_checkable
class Term(Protocol):
    """A loss term: mathematics without state, computed in fp32 whatever the U-Nets ran in.

    Attributes:
        name: its weight's in the recipe, and its curve's in the log.
        title: of its curve in the report.
        needs_teacher: without any such term the teacher does not run.
        uses_prediction: without any such term the student's last layers get no gradient.
    """

    name: str
    title: str
    needs_teacher: bool
    uses_prediction: bool

    def pairs(self, arch: StudentArch, teacher_config: Mapping[str, Any]) -> Sequence[Pair]:
        """The points that it taps; empty: none."""

    def __call__(self, forward: Forward) -> Tensor:
        """The term's value: a scalar with gradients into the student, none into the teacher."""
