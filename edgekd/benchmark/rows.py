"""From what was measured to the rows of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgekd.benchmark.agreement import Figures, agreement, pixel_agreement
from edgekd.benchmark.cases import TORCH, Case
from edgekd.benchmark.facts import (
    component_bytes,
    component_parameters,
    folder_bytes,
    parity,
    stored_dtype,
)
from edgekd.benchmark.matrix import Matrix
from edgekd.benchmark.speed import SpeedResult
from edgekd.errors import GateError
from edgekd.measure.memory import PeakMemory
from edgekd.measure.speed import IMAGE
from edgekd.metrics.metric import Figure, Measurements, Metric, Pictures, Reference
from edgekd.report.costs_schema import (
    ColdStart,
    Energy,
    Memory,
    Scaling,
)
from edgekd.report.features_schema import Embeddings
from edgekd.report.schema import Agreement, Row

if TYPE_CHECKING:
    from edgekd.benchmark.device_cost import DeviceCost


@dataclass
class MatrixFigures:
    """All that was measured until now, before it is put into rows.

    Attributes:
        pictures, memory, start: by row.
        threads: of the times.
        real: the prompts' own images.
        devices: what others measured.
    """

    real: Pictures
    reference: Reference
    pictures: dict[str, Pictures] = field(default_factory=dict)
    speed: SpeedResult | None = None
    threads: int = 1
    memory: dict[str, PeakMemory] = field(default_factory=dict)
    start: dict[str, ColdStart] = field(default_factory=dict)
    scaling: list[Scaling] = field(default_factory=list)
    embeddings: list[Embeddings] = field(default_factory=list)
    devices: list[DeviceCost] = field(default_factory=list)

    def of(self, case: Case, parameters: int | None, size_bytes: int | None) -> Measurements:
        """What is known of one row."""
        timings = self.speed.timings.get(case.name) if self.speed else None
        energy = self.energy(case)
        start = self.start.get(case.name)
        return Measurements(
            reference=self.reference,
            pictures=self.pictures.get(case.name),
            latency_ms=tuple(timings[IMAGE].samples_ms) if timings else None,
            cold_start_ms=tuple(start.samples_ms) if start else None,
            cpu_ms=tuple(timings[IMAGE].cpu_ms) if timings else None,
            contended=timings is not None and timings[IMAGE].busy and self.threads == 1,
            joules=None if energy is None or energy.joules is None else (energy.joules,),
            memory=self.memory.get(case.name),
            parameters=parameters,
            size_bytes=size_bytes,
        )

    def energy(self, case: Case) -> Energy | None:
        return self.speed.energy.get(case.name) if self.speed else None


def figures_of(
    row: str, metrics: Sequence[Metric], found: Measurements
) -> dict[str, Figure | None]:
    """Each metric's figure of one row.

    Raises:
        GateError: one that is NaN or infinite is a failure, not a figure.
    """
    figures = {metric.descriptor.name: metric.measure(found) for metric in metrics}
    for name, figure in figures.items():
        if figure is None:
            continue
        numbers = (figure.value, figure.error, figure.low, figure.high, *(figure.samples or ()))
        for number in numbers:
            if number is not None and not math.isfinite(number):
                raise GateError("every metric must be finite", f"`{name}` of `{row}` is {number}")
    return figures


def make_rows(matrix: Matrix, measured: MatrixFigures, stopped: str | None = None) -> list[Row]:
    """One row per case, in the given order; a metric that is not finite fails its row.

    Args:
        stopped: why rows without pictures were not tried; None: all were.
    """
    parameters = {
        case.name: component_parameters(case.weights) if case.weights else {}
        for case in matrix.cases
    }
    figures: dict[str, Figures] = {}
    for case in matrix.cases:
        figures[case.name] = {metric.descriptor.name: None for metric in matrix.metrics}
        total = sum(parameters[case.name].values()) or None
        size = None if case.failed else folder_bytes(case.path)
        with matrix.failures.caught(case.name):
            known = measured.of(case, total, size)
            figures[case.name] = figures_of(case.name, matrix.metrics, known)
    rows = [_row(matrix, measured, case, parameters[case.name], figures) for case in matrix.cases]
    if stopped is None:
        return rows
    return [
        row.model_copy(update={"unmeasured": stopped, "generation": None})
        if row.drawn and row.name not in measured.pictures
        else row
        for row in rows
    ]


def _row(
    matrix: Matrix,
    measured: MatrixFigures,
    case: Case,
    parameters: dict[str, int],
    figures: dict[str, Figures],
) -> Row:
    memory, failed = measured.memory.get(case.name), matrix.failures.reasons.get(case.name)
    trained = case.role == "student" and case.runtime == TORCH

    def against(other: Case | None) -> Agreement | None:
        if other is None or other.name == case.name:
            return None
        if not {case.name, other.name} <= measured.pictures.keys():
            return None
        pairs = [(measured.pictures[one.name], figures[one.name]) for one in (case, other)]
        images = [pictures.images for pictures, _ in pairs]
        keys = [matrix.drawing_key(one) for one in (case, other)]
        pixels = matrix.cache.tensors("pixels", keys, lambda: pixel_agreement(*images))
        return agreement(pairs[0], pairs[1], other.name, pixels)

    return Row(
        name=case.name,
        model=case.model or case.name,
        role=case.role,
        runtime=case.runtime,
        precision=case.precision,
        target=case.target,
        not_executed=case.not_executed or None,
        evaluated=case.evaluated or None,
        failed=failed,
        generation=None if case.not_executed or failed else case.generation,
        component_parameters=parameters,
        component_bytes={} if case.failed else component_bytes(case.path),
        stored_dtype=stored_dtype(case.path) if case.runtime == TORCH else None,
        parity=parity(case.path),
        figures=dict(figures[case.name]),
        to_teacher=against(matrix.torch_case("teacher")),
        to_student=against(matrix.torch_case("student") if trained else None),
        to_torch=against(matrix.original(case)),
        speed=measured.speed.timings.get(case.name, {}) if measured.speed else {},
        memory=None if memory is None else Memory.model_validate(memory.to_dict()),
        start=measured.start.get(case.name),
        energy=measured.energy(case),
    )
