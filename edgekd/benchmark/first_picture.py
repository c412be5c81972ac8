"""The first picture of a fresh process by diffusers: see `edgekd.measure.picture`."""

from __future__ import annotations

import time

from edgekd.measure.picture import Moments, PictureOrder


def draw_torch(order: PictureOrder) -> Moments:
    """By diffusers."""
    import torch

    from edgekd.benchmark.torch_drawer import import_libraries, set_scheduler
    from edgekd.diffusion.load import load_pipeline

    import_libraries()
    imported = time.monotonic_ns()
    torch.set_num_threads(order.threads)
    pipeline = load_pipeline(order.path)
    set_scheduler(pipeline, order.sampler)
    loaded = time.monotonic_ns()
    with torch.inference_mode():
        pipeline(
            prompt=list(order.captions),
            height=order.side,
            width=order.side,
            num_inference_steps=order.steps,
            guidance_scale=order.guidance_scale,
            generator=[torch.Generator().manual_seed(seed) for seed in order.seeds],
        )
    return Moments(imported, loaded, time.monotonic_ns())
