"""Time, size and memory of single graphs on other devices.

This machine converts, with torch; the devices, of one class, open and time what it made, in turns
with the same reference graph as here. A graph's time is its ratio to the reference in units of the
reference's own time, so that neither the way there nor which device it was is in it.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from edgekd.benchmark.graph_cost import Converter, Referenced, summary
from edgekd.devices.connect import Connected
from edgekd.devices.link import LostDeviceError
from edgekd.devices.orders import GraphSettings
from edgekd.devices.protocol import Component, GraphFolder, GraphOrder
from edgekd.devices.results import GraphResult
from edgekd.errors import InputError
from edgekd.measure.environment import versions
from edgekd.measure.graph_timing import Rounds, TimedGraph
from edgekd.processes.scratch import scratch_folder
from edgekd.search.graphs import Graph, Measure
from edgekd.search.measurements import (
    Conditions,
    Keep,
    Measurement,
    MeasurementStore,
    StoredMeasure,
    procedure,
)

# Graphs of one job, at most: what is lost with a device or with a search that is killed, and what
# one device is ahead of another by.
_PIECE = 4
PER_DEVICE = 2 * _PIECE  # graphs that are shipped together, for each device


def device_conditions(
    devices: Sequence[Connected], runtime: str, precision: str, threads: int
) -> Conditions:
    """What measurements on these devices hold for.

    Raises:
        InputError: one does not run the runtime, or they are not of one kind.
    """
    found = {one.name: _conditions(one, runtime, precision, threads) for one in devices}
    first, *others = devices
    for other in others:
        if found[other.name] != found[first.name]:
            raise InputError(
                f"devices of class `{first.device_class}` must have the same processor and "
                "versions of runtimes",
                f"others on `{other.name}` than on `{first.name}`",
                "Give them classes of their own in devices.yaml.",
            )
    return found[first.name]


def _conditions(device: Connected, runtime: str, precision: str, threads: int) -> Conditions:
    if not device.runs(runtime):
        here = ", ".join(device.versions) or "nothing"
        raise InputError(f"device `{device.name}` must run {runtime}", f"one that runs {here}")
    environment = device.description.environment
    cpu, own = environment.get("cpu"), environment.get("versions")
    there = own if isinstance(own, dict) else {}
    return Conditions(
        runtime=runtime,
        precision=precision,
        threads=threads,
        cpu=cpu if isinstance(cpu, dict) else {},
        versions={
            # What converts is this machine's.
            **{f"{name} here": version for name, version in versions().items()},
            **{name: str(version) for name, version in there.items()},
        },
        procedure=procedure(runtime),
        device=device.device_class,
    )


class DeviceTimer:
    """A `Timer` on devices that share the work.

    Attributes:
        reference: see `edgekd.benchmark.graph_cost.GraphTimer`.
    """

    def __init__(
        self, devices: Sequence[Connected], converter: Converter, settings: GraphSettings
    ) -> None:
        self._devices = list(devices)
        self._converter = converter
        self._settings = settings
        self.reference: Measurement | None = None

    def __call__(self, graphs: Sequence[Graph], keep: Keep) -> None:
        together = PER_DEVICE * max(1, len(self._devices))
        for start in range(0, len(graphs), together):
            self._measure(graphs[start : start + together], keep)

    def _measure(self, graphs: Sequence[Graph], keep: Keep) -> None:
        reference = self._converter.reference_folder()
        sizes: dict[int, int] = {}
        folders = {}

        def came(name: str, result: GraphResult) -> None:
            if result.times is not None:
                timed, number = TimedGraph(**result.times.model_dump()), int(name)
                keep(graphs[number], self._summary(timed, sizes[number]))

        try:
            for number, graph in enumerate(graphs):
                folder = self._converter.folder / f"graph-{number}"
                sizes[number] = self._converter.convert(graph, folder)
                folders[str(number)] = GraphFolder(
                    folder, cast(Component, graph.component), whole=graph.block is None
                )
            results = self._timed(folders, reference, came)
        finally:
            for one in folders.values():
                shutil.rmtree(one.folder, ignore_errors=True)
        for name, result in results.items():
            if result.times is None:
                label = graphs[int(name)].label
                raise InputError(f"{label} must run on the device", str(result.failure))

    def _summary(self, timed: TimedGraph, size: int) -> Measurement:
        unit = float(np.median(timed.reference_ms))
        if self.reference is not None:
            unit = self.reference.latency_ms
        return summary(timed, size, unit)

    def _timed(
        self,
        folders: Mapping[str, GraphFolder],
        reference: Path,
        came: Callable[[str, GraphResult], None],
    ) -> dict[str, GraphResult]:
        """Every graph by one of the devices; one that is lost leaves its work to the others.

        Args:
            came: told of each result when its job is over, by one thread at a time.
        """
        names = list(folders)
        size = min(_PIECE, -(-len(names) // max(1, len(self._devices))))
        work = _Work(deque(names[start : start + size] for start in range(0, len(names), size)))

        def serve(device: Connected) -> None:
            while piece := work.take():
                order = GraphOrder(
                    {name: folders[name] for name in piece}, reference, self._settings
                )
                try:
                    found = device.device.measure_graphs(order).graphs
                except LostDeviceError as error:
                    work.give_back(piece, error)
                    self._devices.remove(device)
                    return
                with work.lock:
                    work.done |= found
                    for name, result in found.items():
                        came(name, result)

        while self._devices and not work.finished(names):
            with ThreadPoolExecutor(len(self._devices)) as pool:
                for one in [pool.submit(serve, device) for device in self._devices]:
                    one.result()
        if not work.finished(names):
            raise work.lost or InputError("the devices must give all results", "not all")
        return work.done


@dataclass
class _Work:
    """Pieces that devices take from one after the other."""

    left: deque[list[str]]
    done: dict[str, GraphResult] = field(default_factory=dict)
    lost: LostDeviceError | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> list[str] | None:
        with self.lock:
            return self.left.popleft() if self.left else None

    def give_back(self, piece: list[str], error: LostDeviceError) -> None:
        with self.lock:
            self.left.appendleft(piece)
            self.lost = error

    def finished(self, names: Sequence[str]) -> bool:
        return set(names) <= self.done.keys()


@contextlib.contextmanager
def open_device_measure(
    store: MeasurementStore, devices: Sequence[Connected], rounds: Rounds | None = None
) -> Iterator[Measure]:
    """A `Measure` on devices of one class: what is stored under its conditions is not measured
    again, and what is new is stored."""
    conditions, chosen = store.conditions, rounds or Rounds()
    settings = GraphSettings(
        runtime=conditions.runtime,
        precision=conditions.precision,
        threads=conditions.threads,
        seconds=chosen.seconds,
        batches=chosen.batches,
        known_well=chosen.known_well,
    )
    with scratch_folder() as scratch, contextlib.ExitStack() as children:
        converter = Converter(conditions, scratch, children)
        timer = DeviceTimer(devices, converter, settings)
        yield Referenced(timer, StoredMeasure(timer, store))
