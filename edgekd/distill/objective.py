"""The loss of a training step: which terms there are and what each of them costs to compute."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.diffusion.noise_schedule import NoiseSchedule
from edgekd.diffusion.taps import Taps
from edgekd.distill.batches import Batch
from edgekd.distill.losses import feature_loss, weighted_mse
from edgekd.errors import InputError
from edgekd.recipe import LossSection
from edgekd.training.min_snr import min_snr_weights


def predict(unet: nn.Module, batch: Batch, autocast: torch.dtype | None) -> Tensor:
    """A U-Net's prediction [B, C, h, w] for a batch, in fp32 or under autocast."""
    device = batch.noisy_latents.device.type
    with torch.autocast(device, dtype=autocast or torch.bfloat16, enabled=autocast is not None):
        output: Tensor = unet(
            batch.noisy_latents,
            batch.timesteps,
            batch.encoder_hidden_states,
            added_cond_kwargs=batch.added,
            return_dict=False,
        )[0]
    return output


def needs_teacher(losses: LossSection) -> bool:
    """Whether any term looks at the teacher."""
    return losses.output > 0 or losses.feature > 0


class Objective:
    """Context manager that computes the loss terms of batches.

    Terms: `task`, the prediction against the ground truth; `output`, against the teacher's
    prediction; `feature`, block features against the teacher's. A term of weight 0 is not
    computed, and without `output` and `feature` the teacher does not run. Task and output
    carry min-SNR weights.

    Args:
        student: the student's U-Net, wrapped for several processes or not.
        teacher: the teacher's U-Net.
        losses: weights of the terms.
        pairs: `(teacher point, student point)` whose features are compared.
        schedule: on the U-Nets' device.
        autocast: type of the forward passes; None: fp32.

    Raises:
        InputError: a feature term without a pair of points.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        losses: LossSection,
        pairs: Sequence[tuple[str, str]],
        schedule: NoiseSchedule,
        autocast: torch.dtype | None,
    ) -> None:
        if losses.feature > 0 and not pairs:
            raise InputError(
                "feature KD needs a block of the teacher's width in the student",
                "none",
                "Set `distill.losses.feature` to 0.",
            )
        self._student, self._teacher = student, teacher
        self._losses, self._schedule, self._autocast = losses, schedule, autocast
        tapped = pairs if losses.feature > 0 else []
        self._teacher_taps = Taps(teacher, [point for point, _ in tapped])
        self._student_taps = Taps(student, [point for _, point in tapped])
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Objective:
        self._stack.enter_context(self._teacher_taps)
        self._stack.enter_context(self._student_taps)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each term that is computed."""
        return {name: weight for name in TERMS if (weight := getattr(self._losses, name)) > 0}

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """Raw value of each term of `weights`: scalars with gradients into the student."""
        prediction = predict(self._student, batch, self._autocast)
        snr = self._schedule.snr(batch.timesteps)
        weights = min_snr_weights(snr, self._losses.min_snr_gamma, self._schedule.prediction_type)
        terms = {}
        if self._losses.task > 0:
            terms["task"] = weighted_mse(prediction, batch.target, weights)
        if needs_teacher(self._losses):
            with torch.no_grad():
                teacher_prediction = predict(self._teacher, batch, self._autocast)
            if self._losses.output > 0:
                terms["output"] = weighted_mse(prediction, teacher_prediction, weights)
            if self._losses.feature > 0:
                terms["feature"] = feature_loss(
                    [self._student_taps.features(p) for p in self._student_taps.points],
                    [self._teacher_taps.features(p) for p in self._teacher_taps.points],
                )
        return terms


TERMS = ("task", "output", "feature")


def total(terms: dict[str, Any], weights: dict[str, float]) -> Any:
    """Weighted sum of terms, of tensors or of numbers."""
    return sum(weights[name] * value for name, value in terms.items())
