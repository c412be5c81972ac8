"""How fast this machine computes, by a short timing of a U-Net."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def macs_per_second(
    unet: Any,
    macs: float,
    batch_size: int,
    seconds: float = 1.0,
    autocast: torch.dtype | None = None,
) -> float:
    """Time forward passes of a diffusers U-Net on random input for about `seconds`.

    Args:
        unet: the teacher's `UNet2DConditionModel`.
        macs: of one forward pass of one sample.
        batch_size: samples a pass.
        seconds: stop after the first pass that ends later than this.
        autocast: type of the passes; None: the U-Net's own.
    """
    import torch

    from edgekd.diffusion.rules import side

    config = unet.config
    size = (batch_size, config.in_channels, *2 * (side(config.sample_size),))
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

    def run() -> None:
        unet(latents, 1, text, added_cond_kwargs=added)
        if unet.device.type == "cuda":
            torch.cuda.synchronize(unet.device)

    passes = 0
    cast = torch.autocast(unet.device.type, autocast or torch.bfloat16, autocast is not None)
    with torch.inference_mode(), cast:
        run()  # the first pass allocates
        started = time.perf_counter()
        while passes == 0 or time.perf_counter() - started < seconds:
            run()
            passes += 1
    return passes * batch_size * macs / (time.perf_counter() - started)
