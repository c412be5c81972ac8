"""What a loss term is, and what it sees of a batch.

Shapes: B batch, [B, C, h, w] predictions and feature maps, [B] per-sample values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from edgekd.diffusion.taps import AttentionTap, TapValue
from edgekd.recipe_losses import LossSection
from edgekd.student.arch import StudentArch


@dataclass(frozen=True)
class TapPair:
    """Points of the two U-Nets that mean the same: see `edgekd.diffusion.taps`.

    Attributes:
        project: the student's features are wanted at the teacher's width.
    """

    student: str
    teacher: str
    project: bool = False


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

    def attentions(self) -> tuple[AttentionTap, AttentionTap]:
        """Projections of the student's attention and of the teacher's.

        Raises:
            TypeError: the points are blocks or layers.
        """
        if not isinstance(self.student, AttentionTap) or not isinstance(self.teacher, AttentionTap):
            raise TypeError("attentions are tapped at `attn1` and `attn2` points")
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
        choice: seed of what a term chooses that looks at a part of the batch only; a function
            of the training step, so that a resumed run chooses the same.
        options: the recipe's, besides the weights.
    """

    prediction: Tensor
    target: Tensor
    weights: Tensor
    taught: Tensor | None = None
    tapped: Sequence[Tapped] = ()
    choice: int = 0
    options: LossSection = field(default_factory=LossSection)

    @property
    def teacher_prediction(self) -> Tensor:
        """[B, C, h, w].

        Raises:
            ValueError: the term did not say that it needs the teacher.
        """
        if self.taught is None:
            raise ValueError("a term that looks at the teacher must have `needs_teacher`")
        return self.taught


def no_pairs(arch: StudentArch, teacher_config: Mapping[str, Any]) -> Sequence[TapPair]:
    """Taps nothing."""
    return ()


@dataclass(frozen=True)
class Term:
    """A loss term.

    Attributes:
        name: its weight's in the recipe, and its curve's in the log.
        title: of its curve in the report.
        needs_teacher: without any such term the teacher does not run.
        uses_prediction: without any such term the student's last layers get no gradient.
        value: pure mathematics, in fp32 whatever the U-Nets ran in (see `exact`): a scalar with
            gradients into the student and none into the teacher.
        pairs: the points that it taps in a student of this arch.
    """

    name: str
    title: str
    needs_teacher: bool
    uses_prediction: bool
    value: Callable[[Forward], Tensor]
    pairs: Callable[[StudentArch, Mapping[str, Any]], Sequence[TapPair]] = no_pairs

    def __call__(self, forward: Forward) -> Tensor:
        return self.value(forward)
