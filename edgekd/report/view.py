"""From the figures of `report.json` to the texts of the page: no figure is computed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekd.metrics.metric import Descriptor, Direction, Figure
from edgekd.report import format as fmt
from edgekd.report.schema import Agreement, Report, Row
from edgekd.report.tables import (
    NOT_EXECUTED,
    Table,
    row_kind,
    runtime_name,
    without_empty_columns,
)


@dataclass(frozen=True)
class Card:
    """One headline ratio; `verdict` is `better`, `worse`, `same` or empty."""

    title: str
    ratio: str
    student: str
    teacher: str
    note: str
    verdict: str


# Ratios nearer to 1 than this are called the same: below the noise of any of these figures.
_SAME = 0.01
# Wall-clock over processor time of a picture above which the machine was not quiet.
_BUSY = 1.25


def cards(report: Report) -> list[Card]:
    """Headline ratios, student / teacher; figures the suite did not ask for are left out."""
    metrics = report.metrics
    if metrics.student is None or metrics.ratios is None:
        return []
    made = []
    for one in report.shown("card"):
        teacher, student = metrics.teacher.get(one.name), metrics.student.get(one.name)
        ratio = metrics.ratios.get(one.name)
        if teacher is None or student is None or ratio is None:
            continue
        made.append(
            Card(
                one.title,
                fmt.factor(ratio),
                fmt.value_text(one, student),
                fmt.value_text(one, teacher),
                f"{one.direction} is better",
                _verdict(ratio, one.direction),
            )
        )
    return made


def torch_latency(report: Report) -> str | None:
    """What torch needs here for both models, where the deployed runtime was not executed."""
    figures = report.metrics.torch_latency_ms
    if figures is None:
        return None
    return (
        f"The deployed runtime was not executed here. In torch, on this machine, a picture takes "
        f"the student {fmt.milliseconds(figures.student)} and the teacher "
        f"{fmt.milliseconds(figures.teacher)} ({fmt.factor(figures.ratio)}); this says "
        "nothing certain about the device."
    )


def _verdict(ratio: float, direction: Direction) -> str:
    if abs(ratio - 1) < _SAME:
        return "same"
    return "better" if (ratio < 1) == (direction == "lower") else "worse"


# Columns in the order of what they are measured on.
_SOURCES = ("pictures", "latency", "memory", "energy", "files")


def matrix_table(report: Report) -> Table:
    """Real images, then every row: how it draws, where rows differ in that, and its figures."""
    columns = sorted(report.shown("column"), key=lambda one: _SOURCES.index(one.source))
    real = [_cell(one, report.real.get(one.name)) for one in columns]
    rows, kinds = [["real images", fmt.MISSING, fmt.MISSING, *real]], ["real"]
    several = len({row.generation for row in report.rows if row.generation}) > 1
    for row in report.rows:
        drawn = str(row.generation) if several and row.generation else fmt.MISSING
        rows.append([row.name, runtime_name(row), drawn, *_figure_cells(report, row, columns)])
        kinds.append(row_kind(row))
    head = ["row", "runtime", "generation", *map(fmt.head, columns)]
    return without_empty_columns(Table(head, rows, kinds, "Quality, latency, memory, size"))


def _figure_cells(report: Report, row: Row, columns: Sequence[Descriptor]) -> list[str]:
    """A row's figures; what was asked for and could not be measured here is said to be so."""
    asked = {"latency": report.suite.speed is not None, "memory": report.suite.memory}
    cells = [_cell(one, row.figures.get(one.name), row.stored_dtype) for one in columns]
    for index, one in enumerate(columns):
        if cells[index] != fmt.MISSING:
            continue
        if row.evaluated and asked.get(one.source):
            cells[index] = NOT_EXECUTED
        if not row.drawn and index == 0:
            cells[index] = NOT_EXECUTED
    return cells


def _cell(one: Descriptor, figure: Figure | None, stored_dtype: str | None = None) -> str:
    """A figure, and the type of the weights where the row's precision is not theirs."""
    if figure is None:
        return fmt.MISSING
    text = fmt.value_text(one, figure.value, figure.error)
    return f"{text} ({stored_dtype})" if one.per_stored_type and stored_dtype else text


def agreement_table(report: Report) -> Table | None:
    """Pictures of the same caption and noise: each row against the teacher and other rows."""
    kept = [row for row in report.rows if row.to_teacher or row.to_student or row.to_torch]
    if not kept:
        return None
    found = {name for row in kept if row.to_teacher for name in row.to_teacher.differences}
    paired = [one for one in report.descriptors if one.name in found]
    head = ["row", "runtime", *(f"{one.label} - teacher's" for one in paired)]
    head += ["PSNR to teacher", "feature cosine to teacher"]
    head += [*(f"{one.label} - first student's" for one in paired), "PSNR to its torch row"]
    rows = [
        [
            row.name,
            runtime_name(row),
            *(_difference(row.to_teacher, one) for one in paired),
            _psnr(row.to_teacher),
            f"{row.to_teacher.feature_cosine:.3f}" if row.to_teacher else fmt.MISSING,
            *(_difference(row.to_student, one) for one in paired),
            _psnr(row.to_torch),
        ]
        for row in kept
    ]
    kinds = [row_kind(row) for row in kept]
    caption = "Agreement of pictures from the same noise"
    return without_empty_columns(Table(head, rows, kinds, caption))


def _difference(other: Agreement | None, one: Descriptor) -> str:
    found = other.differences.get(one.name) if other else None
    if found is None:
        return fmt.MISSING
    return f"{one.scale * found.value:+.2f} ± {one.scale * found.error:.2f}"


def _psnr(other: Agreement | None) -> str:
    return fmt.decibel(other.psnr_db if other else None)


def busy_warning(report: Report) -> str | None:
    """A sentence where other work held the cores while times were taken, else None.

    On one thread, wall-clock above processor time is waiting for a core.
    """
    speed = report.suite.speed
    timed = [row.speed["image"] for row in report.rows if row.speed]
    if not timed or speed is None or speed.threads != 1:
        return None
    waiting = max((one.p50_ms / one.cpu_p50_ms for one in timed if one.cpu_p50_ms), default=0.0)
    if waiting < _BUSY:
        return None
    return (
        f"Other work held the cores while times were taken: pictures took up to {waiting:.1f} "
        "times their processor time. Latencies and their ratios are not to be trusted; measure "
        "again on a quiet machine."
    )
