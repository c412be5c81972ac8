"""Exponential moving average of a model's weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.training.sharding import local


def decay_at(update: int, decay: float) -> float:
    """Decay of update number `update` (from 0): `min(decay, (1 + n) / (10 + n))`.

    The short memory of the first updates lets a run of a few hundred steps forget its
    starting weights (as `tf.train.ExponentialMovingAverage` does with `num_updates`).
    """
    return min(decay, (1 + update) / (10 + update))


@torch.no_grad()
def follow(averages: Sequence[Tensor], weights: Sequence[Tensor], decay: float) -> None:
    """`average += (1 - decay) * (weights - average)` in place; exactly the weights at decay 0."""
    torch._foreach_lerp_(list(averages), list(weights), 1.0 - decay)


class Ema:
    """Average that starts as a copy of the student itself.

    Args:
        model: the student, not wrapped.
        decay: 0 makes the average follow the student exactly.
        duplicate: how the student is copied.

    Attributes:
        model: a frozen copy of the student that holds the averaged weights.
    """

    def __init__(
        self,
        model: nn.Module,
        decay: float,
        duplicate: Callable[[nn.Module], nn.Module] = copy.deepcopy,
    ) -> None:
        self.model: Any = duplicate(model).requires_grad_(False).eval()
        self._decay = decay

    def update(self, model: nn.Module, update: int) -> None:
        """`follow`, after optimiser step `update`."""
        averages, weights = ([local(p) for p in m.parameters()] for m in (self.model, model))
        follow(averages, weights, decay_at(update, self._decay))
