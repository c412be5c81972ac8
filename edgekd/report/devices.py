"""Rows of other devices: a part of the report for each, with what it was measured on."""

from __future__ import annotations

from dataclasses import dataclass

from edgekd.report import costs, notes, tables, view
from edgekd.report.matrix import device_matrix
from edgekd.report.schema import Report
from edgekd.report.table import Table


@dataclass(frozen=True)
class DevicePart:
    """One device.

    Attributes:
        absent: names of rows that lack figures, and why.
        hint: how its students get ratios; None: they have them.
    """

    name: str
    device_class: str
    matrix: Table
    tables: list[Table]
    absent: list[tuple[str, str]]
    hint: str | None
    busy: str | None
    environment: list[tuple[str, str]]


def device_parts(report: Report) -> list[DevicePart]:
    """In the order that they were measured in."""
    return [
        DevicePart(
            name=one.name,
            device_class=one.device_class,
            matrix=device_matrix(report.on(one), one.name),
            tables=[table for table in cost_tables(report.on(one)) if table is not None],
            absent=view.absent_sentences(report.on(one)),
            hint=_hint(report.on(one)),
            busy=view.busy_warning(report.on(one)),
            environment=notes.environment_items(report.on(one)),
        )
        for one in report.devices
    ]


def _hint(there: Report) -> str | None:
    if any(row.role == "teacher" for row in there.rows):
        return None
    return (
        "No row of the teacher is here, for torch stays on the host, and so there are no ratios "
        "of cost: with `--targets` the teacher is exported and measured here too."
    )


def cost_tables(report: Report) -> list[Table | None]:
    """What rows cost where they ran."""
    return [
        tables.speed_table(report),
        costs.start_table(report),
        costs.memory_table(report),
        costs.energy_table(report),
    ]
