"""What the rows of exported folders cost on other devices: time, memory, cold start.

All rows of a device, up to 64, are timed in turns there, by the code that times them here. Their
pictures, and so their quality, are this machine's.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekd.benchmark.cases import TORCH, Case
from edgekd.benchmark.cost import machine_state, together_or_apart
from edgekd.benchmark.matrix import Matrix
from edgekd.benchmark.start import summary
from edgekd.devices.connect import Connected
from edgekd.devices.link import LostDeviceError
from edgekd.devices.orders import MAX_ROWS, ExportSettings, PictureSettings, SpeedSettings
from edgekd.devices.protocol import ExportFolder, ExportOrder
from edgekd.devices.results import ExportResult, RowResult, Samples
from edgekd.errors import EdgekdError
from edgekd.measure.clock import Latency
from edgekd.measure.memory import PeakMemory
from edgekd.measure.speed import IMAGE
from edgekd.metrics.metric import Measurements, Reference
from edgekd.progress import Progress, counted
from edgekd.report.costs_schema import ColdStart, Energy, Timing
from edgekd.report.schema import DeviceRecord, Environment
from edgekd.schema import validate


@dataclass
class DeviceCost:
    """What was measured on one device, by the names of the host's rows.

    Attributes:
        record: the device, for the report, as it was when it was measured on; before that, and
            where it was lost, as it described itself.
        asked: rows that were to be measured there; they have a row each, whatever came of it.
        absent: why rows were not executed there.
    """

    device: Connected
    record: DeviceRecord
    asked: frozenset[str]
    rows: dict[str, RowResult] = field(default_factory=dict)
    energy_source: str = ""
    absent: dict[str, str] = field(default_factory=dict)

    def row_name(self, row: str) -> str:
        """What a row of the host's is called on this device."""
        return f"{row} on {self.device.name}"

    def timings(self, row: str) -> dict[str, Timing]:
        found = self.rows.get(row)
        return {name: _timing(one) for name, one in found.timings.items()} if found else {}

    def memory(self, row: str) -> PeakMemory | None:
        found = self.rows.get(row)
        return PeakMemory(**found.memory.model_dump()) if found and found.memory else None

    def start(self, row: str) -> ColdStart | None:
        found = self.rows.get(row)
        if found is None or not found.cold_starts:
            return None
        return summary(
            [(one.process_ms, one.load_ms, one.first_picture_ms) for one in found.cold_starts]
        )

    def energy(self, row: str) -> Energy | None:
        found = self.rows.get(row)
        if found is None or IMAGE not in found.timings:
            return None
        joules = found.timings[IMAGE].joules
        return Energy(
            joules=float(np.median(joules)) if joules else None, source=self.energy_source
        )

    def measurements(self, row: str, reference: Reference, threads: int) -> Measurements:
        """What metrics of cost read."""
        timings, start, energy = self.timings(row), self.start(row), self.energy(row)
        image = timings.get(IMAGE)
        return Measurements(
            reference=reference,
            latency_ms=tuple(image.samples_ms) if image else None,
            cold_start_ms=tuple(start.samples_ms) if start else None,
            cpu_ms=tuple(image.cpu_ms) if image else None,
            contended=image is not None and image.busy and threads == 1,
            joules=None if energy is None or energy.joules is None else (energy.joules,),
            memory=self.memory(row),
        )


def _timing(samples: Samples) -> Timing:
    return Timing.model_validate(Latency(**samples.model_dump()).to_dict())


def cost_on_devices(matrix: Matrix, progress: Progress) -> list[DeviceCost]:
    """Every exported row on every device, one device after the other; what goes wrong with one or
    with a row there stops no other."""
    return [_cost_on(matrix, device, progress) for device in matrix.devices]


def exported(matrix: Matrix) -> list[Case]:
    """Rows that another device could run."""
    return [
        case
        for case in matrix.cases
        if case.runtime != TORCH
        and not case.failed
        and case.generation is not None
        and case.name not in matrix.failures.reasons
    ]


def _cost_on(matrix: Matrix, device: Connected, progress: Progress) -> DeviceCost:
    described = _record(device, device.description.environment, None, None)
    there = exported(matrix)
    cost = DeviceCost(device, described, frozenset(case.name for case in there))
    cases = []
    for case in there:
        if device.runs(case.runtime):
            cases.append(case)
        else:
            cost.absent[case.name] = f"{case.runtime} does not run on `{device.name}`"
    if not cases or (matrix.suite.speed is None and not matrix.suite.memory):
        return cost

    lost: list[LostDeviceError] = []

    def measure(some: Sequence[Case]) -> ExportResult:
        if lost:  # each row by itself would wait for it as long again
            raise lost[0]
        try:
            return _measured(matrix, device, progress, some)
        except LostDeviceError as error:
            lost.append(error)
            raise

    def failed(case: Case, error: EdgekdError) -> None:
        matrix.failures.record(cost.row_name(case.name), str(error))

    together = (cases[i : i + MAX_ROWS] for i in range(0, len(cases), MAX_ROWS))
    parts = (together_or_apart(some, measure, failed, progress) for some in together)
    found = list(itertools.chain.from_iterable(parts))
    if found:
        cost.record = _record(device, found[-1].environment, *machine_state(found))
    for result in found:
        cost.energy_source = result.energy_source
        for name, row in result.rows.items():
            if row.failure is None:
                cost.rows[name] = row
            else:
                matrix.failures.record(cost.row_name(name), row.failure)
    return cost


def _measured(
    matrix: Matrix, device: Connected, progress: Progress, cases: Sequence[Case]
) -> ExportResult:
    """These rows in turns, or what was kept of it: of the same models, device, versions and
    settings. Failures are not kept: they may be of a limit or of other work there."""
    settings = _settings(matrix)
    drawings = {case.name: _drawing(matrix, case, settings.threads) for case in cases}
    key = [
        [[case.name, matrix.keys[case.name], drawings[case.name].model_dump()] for case in cases],
        [device.name, device.device_class, device.versions],
        device.description.environment,
        settings.model_dump(),
    ]
    known = matrix.cache.known("device", key)
    if known is not None:
        return ExportResult.model_validate(known)
    progress.info(f"measuring {counted(len(cases), 'row')} on device `{device.name}`")
    rows = {case.name: ExportFolder(case.path, drawings[case.name]) for case in cases}
    found = device.device.measure_exports(ExportOrder(rows, settings))
    if all(row.failure is None for row in found.rows.values()):
        matrix.cache.keep("device", key, found.model_dump(mode="json"))
    return found


def _settings(matrix: Matrix) -> ExportSettings:
    speed = matrix.suite.speed
    if speed is None:
        return ExportSettings(threads=1, memory=matrix.suite.memory)
    fields = set(SpeedSettings.model_fields)
    return ExportSettings(
        threads=speed.threads,
        speed=SpeedSettings(**speed.model_dump(include=fields)),
        memory=matrix.suite.memory,
        cold_starts=speed.cold_starts,
    )


def _drawing(matrix: Matrix, case: Case, threads: int) -> PictureSettings:
    """The picture of the first prompt, as the row draws it."""
    order = matrix.batch(case, range(1), threads).order
    fields = {name: getattr(order, name) for name in PictureSettings.model_fields}
    return validate(PictureSettings, fields, "a picture that a device draws")


def _record(
    device: Connected,
    found: Mapping[str, Any],
    load_average: float | None,
    throttled: bool | None,
) -> DeviceRecord:
    where = f"the environment of device `{device.name}`"
    return DeviceRecord(
        name=device.name,
        device_class=device.device_class,
        edgekd=device.description.edgekd,
        environment=validate(Environment, {**found, "throttled": throttled}, where),
        load_average=load_average,
    )
