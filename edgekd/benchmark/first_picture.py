"""What a fresh process does from its start to its first picture, and when.

A child imports this module by itself, and nothing of the benchmark with it: what an export's
process loads is then what an app loads. Moments are of `time.monotonic_ns`, one clock for all
processes of a machine.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FirstPicture:
    """A picture to draw, of a folder of its own."""

    path: Path
    threads: int
    sampler: str
    steps: int
    guidance_scale: float
    caption: str
    seed: int
    side: int


@dataclass(frozen=True)
class Moments:
    """When the libraries were imported, all models loaded, and the picture drawn; nanoseconds."""

    imported: int
    loaded: int
    drawn: int


def draw_exported(order: FirstPicture) -> Moments:
    """By `edgekd.runtime`. The tokenizer is read before `imported`, as the runtime's import is."""
    from edgekd.runtime import Pipeline

    pipeline = Pipeline.open(order.path, order.threads, order.sampler)
    imported = time.monotonic_ns()
    pipeline.load()
    loaded = time.monotonic_ns()
    pipeline.generate(
        [order.caption],
        steps=order.steps,
        guidance_scale=order.guidance_scale,
        seed=[order.seed],
        height=order.side,
        width=order.side,
    )
    return Moments(imported, loaded, time.monotonic_ns())


def draw_torch(order: FirstPicture) -> Moments:
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
            prompt=[order.caption],
            height=order.side,
            width=order.side,
            num_inference_steps=order.steps,
            guidance_scale=order.guidance_scale,
            generator=[torch.Generator().manual_seed(order.seed)],
        )
    return Moments(imported, loaded, time.monotonic_ns())
