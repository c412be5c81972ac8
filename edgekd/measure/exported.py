"""Exported folders as calls that can be timed and weighed: drawn by `edgekd.runtime`, without
torch, as an app draws them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgekd.measure.memory import PeakMemory, measured
from edgekd.measure.picture import PictureOrder
from edgekd.runtime.backend import Array, Arrays, Backend
from edgekd.runtime.pipeline import Pictures, Pipeline
from edgekd.runtime.samplers import fewest_steps

Call = Callable[[], Any]


def open_exported(order: PictureOrder) -> Pipeline:
    """The folder of an order; its models are loaded when first used."""
    return Pipeline.open(order.path, order.threads, order.sampler)


def draw(pipeline: Pipeline, order: PictureOrder) -> Pictures:
    """Draw an order's pictures with its opened folder, uint8 [N,H,W,3]."""
    return pipeline.generate(
        order.captions,
        steps=order.steps,
        guidance_scale=order.guidance_scale,
        seed=order.seeds,
        height=order.side,
        width=order.side,
    )


def in_few_steps(pipeline: Pipeline, order: PictureOrder) -> PictureOrder:
    """An order in the fewest steps that its sampler takes: one, where it does not look back."""
    return replace(order, steps=fewest_steps(pipeline.folder.scheduler, order.steps))


def step_calls(pipeline: Pipeline, order: PictureOrder) -> dict[str, Call]:
    """Draw an order, and give each component's calls of a step, ready to be repeated on their
    inputs."""
    recorder = Recorder(pipeline.backend)
    encoders = tuple(replace(one, backend=recorder) for one in pipeline.encoders)
    draw(replace(pipeline, backend=recorder, encoders=encoders), order)
    return {name: recorder.repeat(name) for name in recorder.inputs}


@dataclass(frozen=True)
class Recorder:
    """A backend that keeps the inputs of each part's calls in one step: two of the U-Net where
    guidance is not fused."""

    backend: Backend
    inputs: dict[str, list[Mapping[str, Array]]] = field(default_factory=dict)

    def run(self, component: str, inputs: Mapping[str, Array]) -> Arrays:
        kept = self.inputs.setdefault(component, [])
        if not kept or _timestep(kept[0]) == _timestep(inputs):
            kept.append(inputs)
        return self.backend.run(component, inputs)

    def load(self, component: str) -> None:
        self.backend.load(component)

    def repeat(self, component: str) -> Call:
        recorded = self.inputs[component]

        def repeated() -> list[Arrays]:
            return [self.backend.run(component, inputs) for inputs in recorded]

        return repeated


def _timestep(inputs: Mapping[str, Array]) -> float | None:
    """Of a call of the U-Net."""
    return float(inputs["timestep"]) if "timestep" in inputs else None


def weigh(order: PictureOrder) -> PeakMemory:
    """Peak memory of opening, loading and drawing one step; to be called in a fresh process.

    The second denoising step needs no more than the first.
    """
    opened: list[Pipeline] = []

    def preload(wanted: PictureOrder) -> None:
        open_exported(wanted)  # imports its libraries; its models are loaded when first used

    def load(wanted: PictureOrder) -> None:
        opened.append(open_exported(wanted))
        opened[0].load()

    def work(wanted: PictureOrder) -> Pictures:
        return draw(opened[0], in_few_steps(opened[0], wanted))

    return measured(work, order, preload, load).memory
