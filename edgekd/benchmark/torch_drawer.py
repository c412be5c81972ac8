"""Rows of diffusers folders, drawn by diffusers in torch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from edgekd.benchmark.cases import Case
from edgekd.benchmark.drawer import Call, DrawingBatch
from edgekd.diffusion.load import load_pipeline, spare_memory
from edgekd.errors import GateError
from edgekd.libraries import diffusers
from edgekd.metrics.metric import Images
from edgekd.runtime.sampler_names import with_sampler

_METHODS = {
    "text_encoder": ("text_encoder", "forward"),
    "text_encoder_2": ("text_encoder_2", "forward"),
    "unet": ("unet", "forward"),
    "vae_decoder": ("vae", "decode"),
}


def import_libraries() -> None:
    """What is imported only when a pipeline is loaded."""
    for name in ("StableDiffusionPipeline", "StableDiffusionXLPipeline"):
        getattr(diffusers, name)


def set_scheduler(pipeline: Any, name: str) -> None:
    """Give a pipeline another scheduler, built from the noise schedule it was trained on.

    Raises:
        InputError: see `with_sampler`.
    """
    scheduler = pipeline.scheduler
    own = {"_class_name": type(scheduler).__name__}
    # Also what its file leaves at the class's defaults: in an export's file they are written out.
    stated = {key: value for key, value in scheduler.config.items() if not key.startswith("_")}
    config = with_sampler({**stated, **own}, name)
    pipeline.scheduler = getattr(diffusers, name).from_config({**config, **own})


class TorchDrawer:
    """See `edgekd.benchmark.draw.Drawer`."""

    def __init__(self, case: Case, threads: int) -> None:
        torch.set_num_threads(threads)
        self.pipeline = load_pipeline(case.path)
        assert case.generation is not None
        set_scheduler(self.pipeline, case.generation.sampler)

    def load(self) -> None:
        """All models are there since it was opened."""

    def draw(self, batch: DrawingBatch) -> Images:
        spare_memory(self.pipeline, batch.resolution)
        with torch.inference_mode():
            pictures = self.pipeline(
                prompt=list(batch.captions),
                height=batch.resolution,
                width=batch.resolution,
                num_inference_steps=batch.generation.steps,
                guidance_scale=batch.generation.guidance_scale,
                generator=[torch.Generator().manual_seed(seed) for seed in batch.seeds],
                output_type="np",
            ).images
        bad = [i for i, picture in enumerate(pictures) if not np.isfinite(picture).all()]
        if bad:
            raise GateError("every generated picture must be finite", f"NaN or infinity in {bad}")
        return np.asarray(np.round(np.clip(pictures, 0, 1) * 255), dtype=np.uint8)

    def step_calls(self, batch: DrawingBatch) -> dict[str, Call]:
        with record_calls(self.pipeline) as calls:
            self.draw(batch)
        return {name: _without_gradients(call) for name, call in calls.items()}


@contextlib.contextmanager
def record_calls(pipeline: Any) -> Iterator[dict[str, Call]]:
    """Yield a mapping that fills with each component's last call, ready to be repeated."""
    calls: dict[str, Call] = {}
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
    calls: dict[str, Call], component: str, original: Callable[..., Any]
) -> Callable[..., Any]:
    def recorded(*args: Any, **kwargs: Any) -> Any:
        calls[component] = lambda: original(*args, **kwargs)
        return original(*args, **kwargs)

    return recorded


def _without_gradients(call: Call) -> Call:
    def called() -> Any:
        with torch.inference_mode():
            return call()

    return called
