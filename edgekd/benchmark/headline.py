"""The headline: one teacher row against one student row, like with like."""

from __future__ import annotations

from collections.abc import Sequence

from edgekd.benchmark.cases import TORCH
from edgekd.devices.listing import LOCAL
from edgekd.metrics.metric import Descriptor
from edgekd.report.ratios import metric_ratio
from edgekd.report.schema import (
    HERE,
    Headline,
    HeadlineRows,
    Row,
    TorchLatency,
    Values,
)

LATENCY = "latency_ms"
_COSTS = ("latency", "memory", "energy")  # as they are where a row runs


def headline_rows(
    rows: list[Row], devices: Sequence[str], deploy: tuple[str, str] | None
) -> list[Row]:
    """The rows of the first device that timed a student and a teacher; else of the first that
    timed a student, with this machine's teachers: their quality is comparable, their cost is not
    there; else this machine's.

    Args:
        devices: in the order that was asked for.
    """
    places = [_rows_on(HERE if name == LOCAL else name, rows) for name in devices]
    timed = [found for found in places if _timed_student(found, deploy)]
    for found in timed:
        if any(row.role == "teacher" and row.drawn for row in found):
            return found
    here = _rows_on(HERE, rows)
    if timed and timed[0][0].device != HERE:
        return [*timed[0], *(row for row in here if row.role == "teacher")]
    return here


def _timed_student(rows: list[Row], deploy: tuple[str, str] | None) -> bool:
    student = choose_student(rows, deploy)
    return student is not None and student.value(LATENCY) is not None


def _rows_on(device: str, rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.device == device]


def choose_student(rows: list[Row], deploy: tuple[str, str] | None) -> Row | None:
    """The student row the headline speaks of: the deployed one, else the first measured one.

    Args:
        deploy: runtime and precision that the target deploys, or None.
    """
    students = [row for row in rows if row.role == "student" and row.drawn]
    for row in students:
        if deploy == (row.runtime, row.precision):
            return row
    return students[0] if students else None


def choose_teacher(rows: list[Row], student: Row | None) -> Row:
    """The teacher row to compare with: same runtime and precision, same runtime, torch, any.

    One that was not drawn stands only where no teacher row was.

    Comparing runtimes at once with models would credit distillation with what a runtime does.
    """

    def distance(row: Row) -> tuple[bool, int]:
        return not row.drawn, runtimes_apart(row)

    def runtimes_apart(row: Row) -> int:
        if student is None:
            return int(row.runtime != TORCH)
        if row.runtime == student.runtime:
            return int(row.precision != student.precision)
        return 2 if row.runtime == TORCH else 3

    return min((row for row in rows if row.role == "teacher"), key=distance)


def torch_latency(rows: list[Row]) -> TorchLatency | None:
    """Latencies of the torch rows and their ratio, where the deployed runtime is not here."""
    found = {
        row.role: row.value(LATENCY) for row in reversed(rows) if row.runtime == TORCH and row.drawn
    }
    teacher, student = found.get("teacher"), found.get("student")
    if not teacher or student is None:
        return None
    return TorchLatency(teacher=teacher, student=student, ratio=student / teacher)


def headline(
    rows: list[Row], descriptors: Sequence[Descriptor], deploy: tuple[str, str] | None
) -> Headline:
    """The pair of rows that is compared, with its values and ratios.

    Without a measured student, `student` and `ratios` are None. A student that was evaluated, not
    executed, adds the reason why it has no times, and what torch needs for both models here: no
    statement on the device.
    """
    student = choose_student(rows, deploy)
    teacher = choose_teacher(rows, student)
    names = HeadlineRows(teacher=teacher.name, student=student.name if student else None)
    if student is None:
        values = _values(teacher, descriptors)
        return Headline(teacher=values, student=None, ratios=None, rows=names)
    same_place = student.device == teacher.device
    ratios = {
        one.name: metric_ratio(one, student, teacher)
        if same_place or one.source not in _COSTS
        else None
        for one in descriptors
    }
    return Headline(
        teacher=_values(teacher, descriptors),
        student=_values(student, descriptors),
        ratios=ratios,
        rows=names,
        evaluated=student.evaluated,
        torch_latency_ms=torch_latency(rows) if student.evaluated else None,
    )


def _values(row: Row, descriptors: Sequence[Descriptor]) -> Values:
    return {one.name: row.value(one.name) for one in descriptors}
