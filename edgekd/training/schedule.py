"""The learning rate of a training step, as a pure function."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class RateSchedule:
    """Linear warm-up, then constant, then half a cosine down.

    Attributes:
        peak: the full rate.
        warmup_steps: steps that climb to it.
        decay_start: last step before the rate begins to fall.
        decay_steps: steps of the fall; 0: none.
        final: share of the peak at its end.
    """

    peak: float
    warmup_steps: int
    decay_start: int
    decay_steps: int
    final: float = 0.0

    def at(self, step: int) -> float:
        """Rate of optimiser step `step` (from 0)."""
        rate = self.peak
        if step < self.warmup_steps:
            rate = self.peak * (step + 1) / self.warmup_steps
        fallen = step - self.decay_start
        if fallen > 0 and self.decay_steps:
            cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, fallen / self.decay_steps)))
            rate *= self.final + (1 - self.final) * cosine
        return rate
