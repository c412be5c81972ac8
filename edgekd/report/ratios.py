"""Which row a row is held against, and the ratio of their figures."""

from __future__ import annotations

from collections.abc import Sequence

from edgekd.metrics.metric import Descriptor, Figure
from edgekd.report.schema import Report, Row


def ratio(value: float | None, base: float | None) -> float | None:
    """value / base; None where either is missing, or the base is not positive.

    Estimates without bias (KID, FD infinity) may be negative: how many times as large says nothing.
    """
    if value is None or base is None or base <= 0:
        return None
    return value / base


def same_storage(row: Row, base: Row) -> bool:
    """Whether a ratio of sizes says something on the models, not on the type they are saved in.

    An export is stored in its own precision, which is what it is compared for.
    """
    if row.stored_dtype is None and base.stored_dtype is None:
        return True
    stored = [one.stored_dtype or one.precision for one in (row, base)]
    return stored[0] == stored[1]


def metric_ratio(metric: Descriptor, row: Row, base: Row) -> float | None:
    """Of a metric's values; None where it would compare types of storage."""
    if metric.per_stored_type and not same_storage(row, base):
        return None
    return ratio(row.value(metric.name), base.value(metric.name))


def teacher_of(row: Row, rows: Sequence[Row]) -> Row | None:
    """The teacher's row of the same runtime and device, of the same precision where there is one.

    Another runtime's would credit the model with what a runtime does.
    """
    found = [
        one
        for one in rows
        if one.role == "teacher"
        and one.drawn
        and (one.runtime, one.device) == (row.runtime, row.device)
    ]
    return min(found, key=lambda one: one.precision != row.precision, default=None)


def floor(report: Report, name: str) -> Figure | None:
    """Real images' figure of a metric: what the rows' pictures can reach at best.

    None too where they have other captions than the pictures, and where a figure of the whole set
    is of another number of images than the rows have pictures: it depends on their number.
    """
    found, data = report.real.get(name), report.data
    if found is None or data.own_prompts:
        return None
    return found if found.samples or data.real_images == data.pictures else None
