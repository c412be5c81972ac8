"""The matrix: every row with its figures and their ratios to the teacher's row."""

from __future__ import annotations

from collections.abc import Sequence

from edgekd.metrics.metric import Descriptor, Figure
from edgekd.report import format as fmt
from edgekd.report.ratios import floor, metric_ratio, teacher_of
from edgekd.report.schema import Report, Row
from edgekd.report.table import (
    NOT_EXECUTED,
    Cell,
    Table,
    absence,
    plain_cells,
    row_kind,
    runtime_name,
    without_empty_columns,
)

REAL = "real images"
TIMED_BUSY = "timed on a busy machine"
# Columns in the order of what they are measured on.
_SOURCES = ("pictures", "latency", "memory", "energy", "files")


def matrix_table(report: Report) -> Table:
    """Real images, then every row by its model: its figures, their ratios to the teacher's row of
    the same runtime, and how it draws, where rows differ in that."""
    columns = _columns(report)
    real = [_real_cell(report, one) for one in columns]
    made = _rows_table(report, columns)
    return without_empty_columns(
        Table(
            made.head,
            [[*plain_cells(REAL), *real, *plain_cells(*[fmt.MISSING] * 3)], *made.rows],
            ["real", *made.kinds],
            "Quality, latency, memory, size; below: ratio to the teacher in the same runtime",
            ["", *made.groups],
        )
    )


def device_matrix(report: Report, device: str) -> Table:
    """The rows of one device, as `matrix_table` has this machine's.

    Args:
        report: of these rows alone.
    """
    made = _rows_table(report, _columns(report))
    caption = (
        f"On {device}: latency, memory; quality of the same folder's pictures; below: ratio to the "
        "teacher in the same runtime there"
    )
    return without_empty_columns(Table(made.head, made.rows, made.kinds, caption, made.groups))


def _columns(report: Report) -> list[Descriptor]:
    return sorted(report.shown("column"), key=lambda one: _SOURCES.index(one.source))


def _rows_table(report: Report, columns: Sequence[Descriptor]) -> Table:
    """Every row by its model, with all columns: first what a reader looks for. The names say the
    runtime already."""
    rows: list[list[Cell]] = []
    kinds: list[str] = []
    groups: list[str] = []
    several = len({row.generation for row in report.rows if row.generation}) > 1
    for row in _by_model(report.rows):
        ways = [
            row.target or fmt.MISSING,
            str(row.generation) if several and row.generation else fmt.MISSING,
        ]
        first, drawn = Cell(row.name, notes=_marks(row)), plain_cells(runtime_name(row), *ways)
        rows.append([first, *_figure_cells(report, row, columns), *drawn])
        kinds.append(row_kind(row))
        groups.append(row.model if row.model == row.role else f"{row.model} ({row.role})")
    head = ["row", *map(fmt.head, columns), "runtime", "target", "generation"]
    return Table(head, rows, kinds, groups=groups)


def _by_model(rows: Sequence[Row]) -> list[Row]:
    """Rows of one model together, teachers first, else in the report's order."""
    models = list(dict.fromkeys(row.model for row in rows))
    return sorted(rows, key=lambda row: (row.role != "teacher", models.index(row.model)))


def _marks(row: Row) -> tuple[str, ...]:
    """What must be known of all its figures, below its name."""
    word = absence(row)
    if word is not None:
        return (f"{word}: {row.absent}",)
    marks = ["evaluated"] if row.evaluated else []
    if row.busy:
        marks.append(TIMED_BUSY)
    return tuple(marks)


def _figure_cells(report: Report, row: Row, columns: Sequence[Descriptor]) -> list[Cell]:
    asked = {"latency": report.suite.speed is not None, "memory": report.suite.memory}
    teacher = teacher_of(row, report.rows)
    return [
        _row_cell(row, teacher, one, asked.get(one.source, one.source == "pictures"))
        for one in columns
    ]


def _row_cell(row: Row, teacher: Row | None, one: Descriptor, asked: bool) -> Cell:
    """A figure; what was asked for and could not be measured here is said to be so."""
    figure = row.figures.get(one.name)
    if figure is None:
        word = absence(row) or (NOT_EXECUTED if row.evaluated else None)
        return Cell(word, mark=True) if word and asked else Cell()
    student = row.role == "student"
    ratio = metric_ratio(one, row, teacher) if student and teacher is not None else None
    return _figure_cell(one, figure, row.stored_dtype, ratio)


def _real_cell(report: Report, one: Descriptor) -> Cell:
    """Of real images, marked where it is no floor; see `floor`."""
    cell = _figure_cell(one, report.real.get(one.name))
    if report.real.get(one.name) is None or floor(report, one.name) is not None:
        return cell
    other = "other captions" if report.data.own_prompts else f"{report.data.real_images} images"
    note = f"of {other}: not comparable"
    return Cell(cell.text, notes=(note, *cell.notes), mark=True)


def _figure_cell(
    one: Descriptor,
    figure: Figure | None,
    stored_dtype: str | None = None,
    ratio: float | None = None,
) -> Cell:
    """A figure, the type of the weights where the row's precision is not theirs, its ratio, and
    its 95 % interval."""
    if figure is None:
        return Cell()
    text = fmt.value_text(one, figure.value, figure.error)
    if one.per_stored_type and stored_dtype:
        text = f"{text} ({stored_dtype})"
    notes = [] if ratio is None else [fmt.factor(ratio)]
    if figure.low is not None and figure.high is not None:
        notes.append(f"95 %: {fmt.range_text(one, figure.low, figure.high)}")
    return Cell(text, figure.value, tuple(notes))
