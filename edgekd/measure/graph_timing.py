"""Time a converted graph in its runtime, as the benchmark times exported folders: without torch, in
turns with a reference graph (`edgekd.measure.clock`). What else the machine does at that time falls
on both, and the ratio of the two stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError
from edgekd.files import read_tensors
from edgekd.measure.clock import Latency, time_calls, time_interleaved
from edgekd.measure.memory import peak_resident_bytes, resident_bytes
from edgekd.reading import Fields
from edgekd.runtime.options import read_options
from edgekd.runtime.registry import runtimes

INPUTS_FILE = "inputs.safetensors"  # one call's, beside the converted graph
_LEAST_ROUNDS, _MOST_ROUNDS = 7, 60
_LONG_MS = 1000.0  # a round that takes longer averages over what disturbs it: few are enough
_LEAST_LONG_ROUNDS = 3
_SHARE = 0.3  # the shorter of graph and reference is repeated to this share of the other's time
_LEAST_BATCHES = 2
_AGREE = 0.04  # of their median, within which batches agree
_OUTLIER = 4.0  # deviations from the median, by the median absolute deviation


@dataclass(frozen=True)
class Rounds:
    """How long a graph is timed.

    Attributes:
        seconds: of one batch of rounds on an idle machine, the reference's share included.
        batches: of rounds, at most; each opens graph and reference anew. Opened, a graph keeps its
            pace, but one in twenty is a fifth slower than at other times (OpenVINO on an EPYC).
        known_well: standard error of the median over the median, at which two batches that agree
            are enough, or of three those two.
    """

    seconds: float = 0.2
    batches: int = 3
    known_well: float = 0.02


@dataclass(frozen=True)
class TimingOrder:
    """A converted graph to time beside the converted reference."""

    component: str
    folder: Path
    reference: Path
    runtime: str
    precision: str
    threads: int
    rounds: Rounds = Rounds()


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
    round_ms = counts["graph"] * first + counts["reference"] * unit
    # What takes so long to run takes long to open too.
    is_long = round_ms > _LONG_MS
    least = _LEAST_LONG_ROUNDS if is_long else _LEAST_ROUNDS
    rounds = min(max(int(1e3 * order.rounds.seconds / round_ms), least), _MOST_ROUNDS)
    times: dict[str, list[float]] = {name: [] for name in counts}
    medians: list[float] = []
    while True:
        opened = {"graph": graph, "reference": reference}
        calls = {name: _repeated(call, counts[name]) for name, call in opened.items()}
        for name, latency in time_interleaved(calls, 0, rounds).items():
            samples = _samples(latency, order.threads)
            times[name] += [sample / counts[name] for sample in samples]
        ratios = np.divide(times["graph"], times["reference"])
        medians.append(float(np.median(ratios[-rounds:])))
        known = agree(medians) and median_error(ratios) < order.rounds.known_well
        if known or is_long or len(medians) == order.rounds.batches:
            return TimedGraph(tuple(times["graph"]), tuple(times["reference"]), baseline, peak)
        del graph, reference, opened, calls  # before others are opened: memory for one is enough
        graph, _ = _opened(order, order.folder, order.component)
        reference, _ = _opened(order, order.reference, "unet")
        graph()
        reference()


def agree(medians: Sequence[float]) -> bool:
    """Whether most batches, and two at least, are near their median."""
    middle = float(np.median(medians))
    near = sum(abs(one / middle - 1) <= _AGREE for one in medians)
    return near >= _LEAST_BATCHES and 2 * near > len(medians)


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
    inputs = read_tensors(folder / INPUTS_FILE)
    assert inputs is not None
    if "timestep" in inputs:
        inputs["timestep"] = inputs["timestep"].reshape(())  # the file has no arrays without axes
    return (lambda: backend.run(component, inputs)), resident_bytes()


def _samples(latency: Latency, threads: int) -> tuple[float, ...]:
    """On one thread the processor's time: that of an idle machine, whoever else waits for the core.
    More threads are timed by the clock, and so are calls that are too short for the processor's,
    which some systems count by ticks."""
    counted = threads == 1 and all(latency.cpu_ms)
    return latency.cpu_ms if counted else latency.samples_ms


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
