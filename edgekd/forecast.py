"""An honest estimate of what remains of a run.

Each stage's work is expressed in multiply-accumulates (MACs) from the recipe,
the suite and the architectures; one short timing of the teacher's U-Net on
this machine turns them into seconds. What finished stages really took
corrects the stages to come.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekd.recipe import DistillSection

# A training step costs its forward pass, and about twice that for the two gradients.
TRAIN_TO_FORWARD = 3.0


class Forecast:
    """Expected seconds by stage, corrected by what has been measured.

    Args:
        expected_seconds: stage name to expected seconds, in the order of work.
    """

    def __init__(self, expected_seconds: dict[str, float]) -> None:
        self._expected = dict(expected_seconds)
        self._expected_done = 0.0
        self._actual_done = 0.0

    def finish(self, stage: str, actual_seconds: float) -> None:
        """Record that a stage is over."""
        self._expected_done += self._expected.pop(stage)
        self._actual_done += actual_seconds

    def remaining_seconds(self) -> float:
        """Expected seconds of the stages not finished, at the pace of those that are."""
        pace = self._actual_done / self._expected_done if self._expected_done > 0 else 1.0
        return pace * sum(self._expected.values())


def distill_macs(section: DistillSection, teacher_macs: float, student_macs: float) -> float:
    """MACs of a distillation run; MACs are those of one forward pass of one sample."""
    with_teacher = section.losses.output + section.losses.feature > 0
    per_sample = TRAIN_TO_FORWARD * student_macs + (teacher_macs if with_teacher else 0.0)
    return section.steps * section.batch_size * section.gradient_accumulation * per_sample


def macs_per_second(unet: Any, macs: float, batch_size: int, seconds: float = 1.0) -> float:
    """Time forward passes of a diffusers U-Net on random input for about `seconds`.

    Args:
        unet: the teacher's `UNet2DConditionModel`.
        macs: of one forward pass of one sample.
        batch_size: samples a pass.
        seconds: stop after the first pass that ends later than this.
    """
    import torch

    config = unet.config
    size = (batch_size, config.in_channels, config.sample_size, config.sample_size)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(size, generator=generator).to(unet.device, unet.dtype)
    text = torch.zeros(batch_size, 77, config.cross_attention_dim).to(unet.device, unet.dtype)
    added = None
    if config.addition_embed_type == "text_time":
        pooled_size = config.projection_class_embeddings_input_dim - 6 * (
            config.addition_time_embed_dim
        )
        added = {
            "text_embeds": torch.zeros(batch_size, pooled_size).to(text),
            "time_ids": torch.zeros(batch_size, 6).to(text),
        }
    passes = 0
    with torch.inference_mode():
        unet(latents, 1, text, added_cond_kwargs=added)  # the first pass allocates
        started = time.perf_counter()
        while passes == 0 or time.perf_counter() - started < seconds:
            unet(latents, 1, text, added_cond_kwargs=added)
            passes += 1
    return passes * batch_size * macs / (time.perf_counter() - started)
