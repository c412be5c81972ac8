"""Time, size and memory of single graphs in a runtime, as the benchmark times exported folders.

One process converts, with torch; others, without torch, open the converted graph with the runtime's
backend and time it in turns with a reference graph (`edgekd.measure.clock`). What else the machine
does at that time falls on both, and the ratio of the two stays.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError
from edgekd.files import read_tensors, write_tensors
from edgekd.measure.clock import Latency, time_calls, time_interleaved
from edgekd.measure.memory import peak_resident_bytes, resident_bytes
from edgekd.processes.child import Child
from edgekd.processes.scratch import scratch_folder
from edgekd.reading import Fields
from edgekd.runtime.options import read_options
from edgekd.runtime.registry import runtimes
from edgekd.search.graphs import Graph, Measure, reference_graph
from edgekd.search.measurements import Conditions, Measurement, MeasurementStore, StoredMeasure

if TYPE_CHECKING:
    from edgekd.export.capture import Capture
    from edgekd.search.modules import BuiltGraph

_INPUTS_FILE = "inputs.safetensors"
_CALIBRATION_CALLS = 2
_LEAST_ROUNDS, _MOST_ROUNDS = 9, 60
_BATCH_SECONDS = 0.5  # of one batch of rounds, the reference's share included
_BATCHES = 4  # of rounds, while the median is not known well enough
_KNOWN_WELL = 0.01  # standard error of the median over the median
_SHARE = 0.4  # the shorter of graph and reference is repeated to this share of the other's time
_OUTLIER = 4.0  # deviations from the median, by the median absolute deviation


@dataclass(frozen=True)
class ConversionOrder:
    """A graph to convert into `folder`."""

    graph: Graph
    runtime: str
    precision: str
    folder: Path


def convert_graph(order: ConversionOrder) -> int:
    """Convert a graph with the target's exporter; returns the bytes of its files.

    Raises:
        InputError: the exporter does not know the precision, or cannot convert such a graph.
    """
    from edgekd.export.protocol import Conversion
    from edgekd.export.registry import get_exporter
    from edgekd.search.modules import build

    exporter = get_exporter(order.runtime)
    built = build(order.graph)
    captured = _captured(order.graph, built)
    part = order.folder / order.graph.component
    exact = order.precision == exporter.precisions[0]
    recordings = [] if exact else _recordings(captured, built)
    exporter.convert(Conversion(captured, part, recordings), order.precision)
    arrays = {name: tensor.numpy() for name, tensor in built.inputs.items()}
    write_tensors(order.folder / _INPUTS_FILE, arrays)
    files = [file for file in part.rglob("*") if file.is_file() and file.name != "config.json"]
    return sum(file.stat().st_size for file in files)


def _captured(graph: Graph, built: BuiltGraph) -> Capture:
    """As an export of a pipeline captures the part: with its names and its free axes."""
    from edgekd.export.capture import Capture, capture

    if graph.block is None:
        return capture(_pipeline(graph, built.model), graph.component)
    image = {0: "batch_size", 2: "height", 3: "width"}
    axes = {"sample": image, "out_sample": image, "time": {0: "batch_size"}}
    axes["encoder_hidden_states"] = {0: "batch_size", 1: "sequence_length"}
    outputs = ("out_sample", "time") if graph.block.kind == "stem" else ("out_sample",)
    named = {name: axes[name] for name in (*built.inputs, *outputs) if name in axes}
    return Capture(
        graph.component, built.model, built.inputs, outputs,
        {name: axes for name, axes in named.items() if name != "timestep"}, {},
    )  # fmt: skip


@dataclass(frozen=True)
class _Tokenizer:
    model_max_length: int


@dataclass(frozen=True)
class _Size:
    """What a capture reads of the U-Net when it captures the decoder."""

    config: Any


class StablePipelineParts:
    """One model in a pipeline's place, with what a capture reads besides."""

    def __init__(self, graph: Graph, model: Any) -> None:
        from types import SimpleNamespace

        self.tokenizer = self.tokenizer_2 = _Tokenizer(graph.tokens)
        self.unet: Any = _Size(SimpleNamespace(sample_size=graph.latent_size))
        attribute = "vae" if graph.kind == "vae_decoder" else graph.component
        setattr(self, attribute, model)


class StableDiffusionXLParts(StablePipelineParts):
    """The same of an XL pipeline, which captures know by the name of its class."""


def _pipeline(graph: Graph, model: Any) -> StablePipelineParts:
    return (StableDiffusionXLParts if graph.xl else StablePipelineParts)(graph, model)


def _recordings(captured: Capture, built: BuiltGraph) -> list[Any]:
    """Calls on random inputs, to calibrate on: times and sizes hang on no value."""
    import torch

    from edgekd.export.record import Recording

    with torch.inference_mode():
        results = captured.module(*built.inputs.values())
    inputs = {name: tensor.numpy() for name, tensor in built.inputs.items()}
    outputs = {name: tensor.numpy() for name, tensor in zip(captured.outputs, results, strict=True)}
    return [Recording(inputs, outputs, 500.0)] * _CALIBRATION_CALLS


@dataclass(frozen=True)
class TimingOrder:
    """A converted graph to time beside the converted reference."""

    component: str
    folder: Path
    reference: Path
    runtime: str
    precision: str
    threads: int


@dataclass(frozen=True)
class TimedGraph:
    """Rounds of a graph and the reference, and the memory of opening and running the graph.

    Attributes:
        graph_ms, reference_ms: one entry a round.
    """

    graph_ms: tuple[float, ...]
    reference_ms: tuple[float, ...]
    baseline_bytes: int
    peak_bytes: int


def time_graph(order: TimingOrder) -> TimedGraph:
    """Open a converted graph, run it, and time it in turns with the reference."""
    graph, baseline = _opened(order, order.folder, order.component)
    first = time_calls(graph, 1, 1).p50_ms
    peak = peak_resident_bytes()
    reference, _ = _opened(order, order.reference, "unet")
    unit = time_calls(reference, 2, 1).p50_ms
    counts = {
        "graph": max(1, round(_SHARE * unit / first)),
        "reference": max(1, round(_SHARE * first / unit)),
    }
    calls = {
        "graph": _repeated(graph, counts["graph"]),
        "reference": _repeated(reference, counts["reference"]),
    }
    rounds = int(1e3 * _BATCH_SECONDS / (counts["graph"] * first + counts["reference"] * unit))
    rounds = min(max(rounds, _LEAST_ROUNDS), _MOST_ROUNDS)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for batch in range(_BATCHES):
        for name, latency in time_interleaved(calls, 0 if batch else 1, rounds).items():
            samples = _samples(latency, order.threads)
            times[name] += [sample / counts[name] for sample in samples]
        if median_error(np.divide(times["graph"], times["reference"])) < _KNOWN_WELL:
            break
    return TimedGraph(tuple(times["graph"]), tuple(times["reference"]), baseline, peak)


def _repeated(call: Callable[[], Any], count: int) -> Callable[[], None]:
    def repeated() -> None:
        for _ in range(count):
            call()

    return repeated


def _opened(order: TimingOrder, folder: Path, component: str) -> tuple[Callable[[], Any], int]:
    """A call of the graph in a folder, and the resident memory before it is opened."""
    runtime = runtimes()[order.runtime]
    if runtime.backend is None:
        raise InputError("graphs must be timed in a runtime with a backend", order.runtime)
    options = read_options(Fields("a graph", {"precision": order.precision}))
    backend = runtime.backend(folder, replace(options, threads=order.threads))
    inputs = read_tensors(folder / _INPUTS_FILE)
    assert inputs is not None
    if "timestep" in inputs:
        inputs["timestep"] = inputs["timestep"].reshape(())  # the file has no arrays without axes
    return (lambda: backend.run(component, inputs)), resident_bytes()


def _samples(latency: Latency, threads: int) -> tuple[float, ...]:
    """On one thread the processor's time: that of an idle machine, whoever else waits for the core.
    More threads are timed by the clock."""
    return latency.cpu_ms if threads == 1 else latency.samples_ms


def typical(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which values are no outliers, by their distance from the median in median distances."""
    distances = np.abs(values - np.median(values))
    scale = 1.4826 * float(np.median(distances))  # a normal distribution's standard deviation
    kept: npt.NDArray[np.bool_] = distances <= max(_OUTLIER * scale, 1e-9)
    return kept


def median_error(values: npt.NDArray[np.float64]) -> float:
    """Relative standard error of the median of a normal sample, outliers left out."""
    kept = values[typical(values)]
    return float(1.2533 * kept.std() / np.sqrt(len(kept)) / np.median(kept))


def summary(timed: TimedGraph, file_bytes: int, reference_ms: float) -> Measurement:
    """A measurement, scaled to a reference that takes `reference_ms`."""
    ratios = np.array(timed.graph_ms) / np.array(timed.reference_ms)
    kept = ratios[typical(ratios)]
    return Measurement(
        latency_ms=float(np.median(kept)) * reference_ms,
        samples_ms=tuple(float(ratio) * reference_ms for ratio in ratios),
        cv=float(kept.std() / kept.mean()),
        outliers=len(ratios) - len(kept),
        drift=float(np.median(timed.reference_ms)) / reference_ms,
        file_bytes=file_bytes,
        baseline_bytes=timed.baseline_bytes,
        peak_bytes=timed.peak_bytes,
    )


class GraphTimer:
    """A `Measure` for one runtime, precision and number of threads on this machine.

    Its processes live from graph to graph; a whole graph, whose memory is measured too, is timed in
    a new one.

    Attributes:
        reference: how the reference graph's own measurement is had; set before the first graph.
    """

    def __init__(self, conditions: Conditions, folder: Path, children: contextlib.ExitStack):
        self._conditions = conditions
        self._folder = folder
        self._children = children
        self._converter: Child | None = None
        self._timer: Child | None = None
        self.reference: Measurement | None = None

    def __call__(self, graphs: Sequence[Graph]) -> list[Measurement]:
        return [self._measure(graph) for graph in graphs]

    def _measure(self, graph: Graph) -> Measurement:
        folder = self._folder / graph.key()[:16]
        size = self._convert(graph, folder)
        try:
            reference = self._reference_folder()
            order = TimingOrder(
                graph.component, folder, reference, self._conditions.runtime,
                self._conditions.precision, self._conditions.threads,
            )  # fmt: skip
            timed = self._time_block(order) if graph.block else self._time_whole(order)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if self.reference is not None:
            return summary(timed, size, self.reference.latency_ms)
        # The reference itself, the first time: its unit is what it takes now.
        return summary(timed, size, float(np.median(timed.reference_ms)))

    def _reference_folder(self) -> Path:
        folder = self._folder / "reference"
        if not folder.is_dir():
            self._convert(reference_graph(), folder)
        return folder

    def _convert(self, graph: Graph, folder: Path) -> int:
        if self._converter is None:
            child = Child("convert graphs", self._conditions.threads)
            self._converter = self._children.enter_context(child)
        folder.mkdir(parents=True, exist_ok=True)
        order = ConversionOrder(graph, self._conditions.runtime, self._conditions.precision, folder)
        return self._converter.call(convert_graph, order)

    def _time_whole(self, order: TimingOrder) -> TimedGraph:
        with Child("time a graph", self._conditions.threads) as child:
            return child.call(time_graph, order)

    def _time_block(self, order: TimingOrder) -> TimedGraph:
        if self._timer is None:
            child = Child("time blocks", self._conditions.threads)
            self._timer = self._children.enter_context(child)
        # A process that had other graphs before says nothing of this one's memory.
        return replace(self._timer.call(time_graph, order), baseline_bytes=0, peak_bytes=0)


@contextlib.contextmanager
def open_measure(store: MeasurementStore) -> Iterator[Measure]:
    """A `Measure` for a store's conditions: it asks the store, and the machine for what is missing.

    The store's conditions must be those of this machine (`conditions_here`).
    """
    with scratch_folder() as folder, contextlib.ExitStack() as children:
        timer = GraphTimer(store.conditions, folder, children)
        measure = StoredMeasure(timer, store)
        yield _Referenced(timer, measure)


@dataclass(frozen=True)
class _Referenced:
    """Measures the reference before anything else, when something is to be measured at all."""

    timer: GraphTimer
    measure: StoredMeasure

    def __call__(self, graphs: Sequence[Graph]) -> list[Measurement]:
        missing = any(self.measure.store.known(graph) is None for graph in graphs)
        if missing and self.timer.reference is None:
            (self.timer.reference,) = self.measure([reference_graph()])
        return self.measure(graphs)
