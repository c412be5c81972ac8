"""From what devices measured to rows of a report."""

from __future__ import annotations

from collections.abc import Sequence

from edgekd.benchmark.device_cost import DeviceCost
from edgekd.benchmark.matrix import Matrix
from edgekd.benchmark.rows import MatrixFigures, figures_of
from edgekd.metrics.metric import Figure
from edgekd.report.costs_schema import Memory
from edgekd.report.schema import Row

# What is measured where a row runs; the rest is of its pictures and files.
_COSTS = ("latency", "memory", "energy")


def device_rows(matrix: Matrix, measured: MatrixFigures, rows: Sequence[Row]) -> list[Row]:
    """Rows of other devices: cost as it is there, pictures and quality of this machine's row.

    Args:
        rows: of this machine.
    """
    of_cases = {row.name: row for row in rows}
    return [
        _row(matrix, measured, cost, of_cases[case.name])
        for cost in measured.devices
        for case in matrix.cases
        if case.name in cost.asked
    ]


def _row(matrix: Matrix, measured: MatrixFigures, cost: DeviceCost, here: Row) -> Row:
    name = cost.row_name(here.name)
    found = cost.measurements(here.name, measured.reference, measured.threads)
    metrics = [one for one in matrix.metrics if one.descriptor.source in _COSTS]
    figures: dict[str, Figure | None] = dict(here.figures)
    figures |= {one.descriptor.name: None for one in metrics}
    with matrix.failures.caught(name):
        figures |= figures_of(name, metrics, found)
    memory = cost.memory(here.name)
    return here.model_copy(
        update={
            "name": name,
            "device": cost.device.name,
            "pictures_of": here.name,
            "not_executed": cost.absent.get(here.name),
            "evaluated": None,
            "failed": matrix.failures.reasons.get(name),
            "figures": figures,
            "component_bytes": {},
            "component_parameters": {},
            "parity": {},
            "to_teacher": None,
            "to_student": None,
            "to_torch": None,
            "speed": cost.timings(here.name),
            "memory": None if memory is None else Memory.model_validate(memory.to_dict()),
            "start": cost.start(here.name),
            "energy": cost.energy(here.name),
        }
    )
