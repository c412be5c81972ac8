"""Validation of a student during training: fixed samples, noise and timesteps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgekd.distill.batches import Batch
from edgekd.distill.objective import predict


class Validation:
    """Compares a student with the ground truth and with the teacher on fixed batches.

    The losses are plain mean squared errors, without min-SNR weights, so that runs with other
    weights can be compared. The teacher's predictions are computed once.

    Args:
        batches: the fixed batches, on the CPU.
        teacher: the teacher's U-Net.
        autocast: type of the forward passes; None: fp32.
    """

    def __init__(
        self, batches: Sequence[Batch], teacher: Any, autocast: torch.dtype | None
    ) -> None:
        self._batches, self._teacher, self._autocast = batches, teacher, autocast
        self._reference: list[Tensor] | None = None

    @torch.no_grad()
    def measure(self, unet: Any) -> dict[str, float]:
        """Losses of a student's U-Net, on the teacher's device.

        Returns:
            `validation_task`: against the ground truth; `validation_output`: against the
            teacher; `validation_teacher_task`: the teacher's own loss, what a perfect student
            would reach.
        """
        if self._reference is None:
            self._reference = [self._predict(self._teacher, batch) for batch in self._batches]
        task = output = reference = 0.0
        count = 0
        for batch, taught in zip(self._batches, self._reference, strict=True):
            prediction = self._predict(unet, batch)
            task += _squared_error(prediction, batch.target)
            output += _squared_error(prediction, taught)
            reference += _squared_error(taught, batch.target)
            count += batch.target.numel()
        return {
            "validation_task": task / count,
            "validation_output": output / count,
            "validation_teacher_task": reference / count,
        }

    def _predict(self, unet: Any, batch: Batch) -> Tensor:
        return predict(unet, batch.to(unet.device), self._autocast).float().cpu()


def _squared_error(a: Tensor, b: Tensor) -> float:
    # Summed in double: the result must not depend on how samples are cut into batches.
    return float((a.double() - b.double()).square().sum())
