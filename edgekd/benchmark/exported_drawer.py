"""Rows of exported folders, drawn by `edgekd.runtime` as an app draws: without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.benchmark.cases import Case
from edgekd.benchmark.drawer import Call, DrawingBatch
from edgekd.measure.exported import draw, step_calls
from edgekd.metrics.metric import Images
from edgekd.runtime import Pipeline
from edgekd.runtime.backend import Array, Arrays
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
        return draw(self.pipeline, batch.order)

    def step_calls(self, batch: DrawingBatch) -> dict[str, Call]:
        return step_calls(self.pipeline, batch.order)


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
