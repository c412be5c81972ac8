"""Rows of exported folders, drawn by `edgekd.runtime` as an app draws: without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekd.benchmark.cases import Case
from edgekd.benchmark.drawer import Call, DrawingBatch
from edgekd.metrics.metric import Images
from edgekd.runtime import Pipeline
from edgekd.runtime.backend import Array, Arrays, Backend
from edgekd.runtime.conditions import open_encoders
from edgekd.runtime.folder import read_folder


def open_pipeline(case: Case, threads: int) -> Pipeline:
    """The folder as an app opens it, or as the exporter evaluates it where nothing executes it."""
    assert case.generation is not None
    if not case.evaluated:
        return Pipeline.open(case.path, threads, case.generation.sampler)
    folder = read_folder(case.path, case.generation.sampler)
    backend = EvaluatedParts(case.runtime, case.path)
    return Pipeline(folder, backend, tuple(open_encoders(folder, backend)))


class ExportedDrawer:
    """See `edgekd.benchmark.draw.Drawer`."""

    def __init__(self, case: Case, threads: int) -> None:
        self.pipeline = open_pipeline(case, threads)

    def load(self) -> None:
        self.pipeline.load()

    def draw(self, batch: DrawingBatch) -> Images:
        return _draw(self.pipeline, batch)

    def step_calls(self, batch: DrawingBatch) -> dict[str, Call]:
        recorder = Recorder(self.pipeline.backend)
        encoders = tuple(replace(one, backend=recorder) for one in self.pipeline.encoders)
        _draw(replace(self.pipeline, backend=recorder, encoders=encoders), batch)
        return {name: recorder.repeat(name) for name in recorder.inputs}


def _draw(pipeline: Pipeline, batch: DrawingBatch) -> Images:
    return pipeline.generate(
        batch.captions,
        steps=batch.generation.steps,
        guidance_scale=batch.generation.guidance_scale,
        seed=batch.seeds,
        height=batch.resolution,
        width=batch.resolution,
    )


@dataclass(frozen=True)
class Recorder:
    """A backend that keeps the inputs of each part's calls: two of the U-Net in a step of guidance
    that is not fused."""

    backend: Backend
    inputs: dict[str, list[Mapping[str, Array]]] = field(default_factory=dict)

    def run(self, component: str, inputs: Mapping[str, Array]) -> Arrays:
        self.inputs.setdefault(component, []).append(inputs)
        return self.backend.run(component, inputs)

    def load(self, component: str) -> None:
        self.backend.load(component)

    def repeat(self, component: str) -> Call:
        recorded = self.inputs[component]

        def repeated() -> list[Arrays]:
            return [self.backend.run(component, inputs) for inputs in recorded]

        return repeated


class EvaluatedParts:
    """A backend over an exporter's own runners, where the runtime does not exist."""

    def __init__(self, runtime: str, folder: Path) -> None:
        from edgekd.export.registry import get_exporter

        self._exporter = get_exporter(runtime)
        self._folder = folder
        self._runners: dict[str, Any] = {}

    def run(self, component: str, inputs: Mapping[str, Array]) -> Arrays:
        runner = self._runner(component)
        found: Arrays = runner({name: inputs[name] for name in runner.inputs if name in inputs})
        return found

    def load(self, component: str) -> None:
        self._runner(component)

    def _runner(self, component: str) -> Any:
        if component not in self._runners:
            self._runners[component] = self._exporter.open_component(self._folder, component)
        return self._runners[component]
