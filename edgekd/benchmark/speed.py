"""Latency per component and per picture, all subjects in turns in one process.

The inputs of a component are those it gets in a real drawing: one short run
of each pipeline is recorded and then replayed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from edgekd.benchmark.generate import draw, set_scheduler
from edgekd.benchmark.suite import GenerationSection, SpeedSection
from edgekd.measure.clock import time_interleaved
from edgekd.measure.environment import load_average

IMAGE = "image"
_METHODS = {
    "text_encoder": ("text_encoder", "forward"),
    "text_encoder_2": ("text_encoder_2", "forward"),
    "unet": ("unet", "forward"),
    "vae_decoder": ("vae", "decode"),
}


@contextlib.contextmanager
def record_calls(pipeline: Any) -> Iterator[dict[str, Callable[[], Any]]]:
    """Yield a mapping that fills with each component's last call, ready to be repeated."""
    calls: dict[str, Callable[[], Any]] = {}
    patched = []
    for component, (attribute, method) in _METHODS.items():
        owner = getattr(pipeline, attribute, None)
        if owner is None:
            continue
        setattr(owner, method, _recorder(calls, component, getattr(owner, method)))
        patched.append((owner, method))
    try:
        yield calls
    finally:
        for owner, method in patched:
            delattr(owner, method)  # uncovers the class's own


def _recorder(
    calls: dict[str, Callable[[], Any]], component: str, original: Callable[..., Any]
) -> Callable[..., Any]:
    def recorded(*args: Any, **kwargs: Any) -> Any:
        calls[component] = lambda: original(*args, **kwargs)
        return original(*args, **kwargs)

    return recorded


def component_calls(
    pipeline: Any, caption: str, generation: GenerationSection, resolution: int
) -> dict[str, Callable[[], Any]]:
    """Repeatable calls: each text encoder, `unet` at batch 1, `unet_guided` at batch 2, decoder."""
    short = generation.model_copy(update={"steps": 1, "guidance_scale": 1.0})
    with record_calls(pipeline) as plain:
        draw(pipeline, [caption], [0], short, resolution, seed=0)
    if not generation.guided:
        return plain
    short = generation.model_copy(update={"steps": 1})
    with record_calls(pipeline) as guided:
        draw(pipeline, [caption], [0], short, resolution, seed=0)
    return {**plain, "unet_guided": guided["unet"]}


def measure_speed(
    pipelines: dict[str, Any],
    caption: str,
    generation: GenerationSection,
    speed: SpeedSection,
    resolution: int,
) -> dict[str, Any]:
    """Time all subjects in turns.

    Returns:
        `{"load_average": before, "subjects": {name: {"image": latency, "unet": latency, …}}}`,
        latencies as `Latency.to_dict`.
    """
    import torch

    torch.set_num_threads(speed.threads)
    load = load_average()
    results: dict[str, dict[str, Any]] = {name: {} for name in pipelines}
    whole = {}
    for name, pipeline in pipelines.items():
        set_scheduler(pipeline, generation.scheduler)
        whole[name] = _draw_once(pipeline, caption, generation, resolution)
    # Whole pictures first: their warm-up is then the true first call of each runtime.
    for name, latency in time_interleaved(whole, 1, speed.image_runs).items():
        results[name][IMAGE] = latency.to_dict()
    calls = {
        name: component_calls(pipeline, caption, generation, resolution)
        for name, pipeline in pipelines.items()
    }
    with torch.inference_mode():
        for component in sorted({part for parts in calls.values() for part in parts}):
            same = {name: parts[component] for name, parts in calls.items() if component in parts}
            timed = time_interleaved(same, speed.warmup, speed.component_runs)
            for name, latency in timed.items():
                results[name][component] = latency.to_dict()
    return {"load_average": load, "subjects": results}


def _draw_once(
    pipeline: Any, caption: str, generation: GenerationSection, resolution: int
) -> Callable[[], Any]:
    return lambda: draw(pipeline, [caption], [0], generation, resolution, seed=0)
