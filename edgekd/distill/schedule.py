"""The learning rate of a training step, as a pure function."""

from __future__ import annotations

import math

from edgekd.recipe import DistillSection

# A cosine schedule ends here rather than at 0, so that the last steps are not without effect.
_FINAL_FACTOR = 0.01


def learning_rate(section: DistillSection, step: int) -> float:
    """Learning rate of optimiser step `step` (from 0): linear warm-up, then constant or cosine."""
    if step < section.warmup_steps:
        return section.learning_rate * (step + 1) / section.warmup_steps
    if section.lr_schedule == "constant":
        return section.learning_rate
    after = section.steps - section.warmup_steps
    progress = (step - section.warmup_steps) / max(1, after - 1)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return section.learning_rate * (_FINAL_FACTOR + (1.0 - _FINAL_FACTOR) * cosine)
