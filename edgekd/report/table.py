"""Tables as data: what a cell says, and the number by which its column is sorted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgekd.report.format import MISSING
from edgekd.report.schema import Row

NOT_EXECUTED, FAILED, UNMEASURED = "not executed", "failed", "unmeasured"


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        value: by which the page sorts; None: last, or by its text where no cell has a value.
        notes: smaller lines below the text.
        mark: the text stands for a missing figure, or says what kind of figure this is.
        heat: share in [0,1] of the cell's tint.
    """

    text: str = MISSING
    value: float | None = None
    notes: tuple[str, ...] = ()
    mark: bool = False
    heat: float | None = None

    def __str__(self) -> str:
        return f"{self.text} ({'; '.join(self.notes)})" if self.notes else self.text


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row.

    Attributes:
        kinds: of each row, for its looks: a role, `real`, `absent` or nothing.
        groups: heading above each row; equal neighbours share one. Empty: none.
    """

    head: list[str]
    rows: list[list[Cell]]
    kinds: list[str]
    caption: str = ""
    groups: list[str] = field(default_factory=list)

    @property
    def sections(self) -> list[tuple[str, list[int]]]:
        """Rows by heading, in order."""
        found: list[tuple[str, list[int]]] = []
        for index in range(len(self.rows)):
            group = self.groups[index] if self.groups else ""
            if not found or found[-1][0] != group:
                found.append((group, []))
            found[-1][1].append(index)
        return found


def plain_cells(*texts: str) -> list[Cell]:
    return [Cell(text) for text in texts]


def without_empty_columns(table: Table) -> Table:
    """The table without columns in which no row has a figure."""
    kept = [
        index
        for index in range(len(table.head))
        if any(row[index].text != MISSING and not row[index].mark for row in table.rows)
    ]
    rows = [[row[index] for index in kept] for row in table.rows]
    head = [table.head[index] for index in kept]
    return Table(head, rows, table.kinds, table.caption, table.groups)


def runtime_name(row: Row) -> str:
    return f"{row.runtime} {row.precision}"


def row_kind(row: Row) -> str:
    return str(row.role) if row.drawn else "absent"


def absence(row: Row) -> str | None:
    """In a word, why a row has no pictures; None: it has."""
    if row.not_executed:
        return NOT_EXECUTED
    if row.failed:
        return FAILED
    return UNMEASURED if row.unmeasured else None


def absent_cell(row: Row, what: str = NOT_EXECUTED) -> Cell:
    """In place of a figure: why it is not there."""
    return Cell(absence(row) or what, mark=True)


def names_first(row: Row) -> list[Cell]:
    """The two columns that each table of rows begins with."""
    return plain_cells(row.name, runtime_name(row))


def column(table: Table, head: str) -> Sequence[Cell]:
    """All cells below a head."""
    index = table.head.index(head)
    return [row[index] for row in table.rows]
