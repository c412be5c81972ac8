"""From what was measured to the rows of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

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
from edgekd.benchmark.speed import IMAGE, SpeedResult
from edgekd.errors import GateError
from edgekd.measure.memory import PeakMemory
from edgekd.metrics.metric import Figure, Measurements, Metric, Pictures, Reference
from edgekd.report.schema import Agreement, Memory, Row


@dataclass(frozen=True)
class MatrixFigures:
    """All that was measured, before it is put into rows.

    Attributes:
        pictures, memory: by row.
        real: the prompts' own images.
    """

    pictures: dict[str, Pictures]
    real: Pictures
    reference: Reference
    speed: SpeedResult | None = None
    memory: dict[str, PeakMemory] = field(default_factory=dict)

    def of(self, case: Case, parameters: int | None, size_bytes: int) -> Measurements:
        """What is known of one row."""
        timings = self.speed.timings.get(case.name) if self.speed else None
        return Measurements(
            reference=self.reference,
            pictures=self.pictures.get(case.name),
            latency_ms=tuple(timings[IMAGE].samples_ms) if timings else None,
            memory=self.memory.get(case.name),
            parameters=parameters,
            size_bytes=size_bytes,
        )


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


def make_rows(matrix: Matrix, measured: MatrixFigures) -> list[Row]:
    """One row per case, in the given order.

    Raises:
        GateError: a metric that is not finite.
    """
    parameters = {
        case.name: component_parameters(case.weights) if case.weights else {}
        for case in matrix.cases
    }
    figures: dict[str, Figures] = {}
    for case in matrix.cases:
        counted = parameters[case.name]
        total = sum(counted.values()) or None
        known = measured.of(case, total, folder_bytes(case.path))
        figures[case.name] = figures_of(case.name, matrix.metrics, known)
    return [_row(matrix, measured, case, parameters[case.name], figures) for case in matrix.cases]


def _row(
    matrix: Matrix,
    measured: MatrixFigures,
    case: Case,
    parameters: dict[str, int],
    figures: dict[str, Figures],
) -> Row:
    memory = measured.memory.get(case.name)
    trained = case.role == "student" and case.runtime == TORCH

    def against(other: Case | None) -> Agreement | None:
        if other is None or other.name == case.name or case.name not in measured.pictures:
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
        not_executed=case.not_executed or None,
        evaluated=case.evaluated or None,
        generation=None if case.not_executed else case.generation,
        component_parameters=parameters,
        component_bytes=component_bytes(case.path),
        stored_dtype=stored_dtype(case.path) if case.runtime == TORCH else None,
        parity=parity(case.path),
        figures=dict(figures[case.name]),
        to_teacher=against(matrix.torch_case("teacher")),
        to_student=against(matrix.torch_case("student") if trained else None),
        to_torch=against(matrix.original(case)),
        speed=measured.speed.timings.get(case.name, {}) if measured.speed else {},
        memory=None if memory is None else Memory.model_validate(memory.to_dict()),
    )
