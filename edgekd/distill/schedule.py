"""Settings of a training step that are pure functions: learning rate and precision."""

from __future__ import annotations

import math

import torch

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


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Type of the forward passes; None: fp32 throughout. Weights stay fp32 in every case.

    `auto` takes bf16 only where the hardware computes it: a CPU without AVX512-BF16 or AMX
    emulates it, many times slower than fp32.
    """
    if precision == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        elif device.type == "cpu":
            fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        else:
            fast = False
        precision = "bf16" if fast else "fp32"
    return torch.bfloat16 if precision == "bf16" else None
