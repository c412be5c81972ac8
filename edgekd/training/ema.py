"""Exponential moving average of a student's weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


def decay_at(update: int, decay: float) -> float:
    """Decay of update number `update` (from 0): `min(decay, (1 + n) / (10 + n))`.

    The short memory of the first updates lets a run of a few hundred steps forget its
    starting weights (as `tf.train.ExponentialMovingAverage` does with `num_updates`).
    """
    return min(decay, (1 + update) / (10 + update))


class Ema:
    """Average that starts as a copy of the student itself.

    Args:
        model: the student, not wrapped.
        decay: 0 makes the average follow the student exactly.

    Attributes:
        model: a frozen copy of the student that holds the averaged weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model: Any = copy.deepcopy(model).requires_grad_(False).eval()
        self._decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, update: int) -> None:
        """`average += (1 - decay) * (weights - average)`, after optimiser step `update`."""
        averages = list(self.model.parameters())
        weights = [parameter.detach() for parameter in model.parameters()]
        decay = decay_at(update, self._decay)
        if decay == 0.0:
            torch._foreach_copy_(averages, weights)
        else:
            torch._foreach_lerp_(averages, weights, 1.0 - decay)
