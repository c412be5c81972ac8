"""`report.csv`: one line for each row, one column for each metric, for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from edgekd.metrics.metric import Descriptor, Figure
from edgekd.report.matrix import REAL, TIMED_BUSY
from edgekd.report.ratios import floor
from edgekd.report.schema import Report, Row
from edgekd.report.table import absence

# Spreadsheets run a cell that begins with one of these as a formula (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_FACTS = ["row", "model", "role", "runtime", "precision", "target", "device", "state", "reason"]
_FACTS += ["sampler", "steps", "guidance"]


def csv_text(report: Report) -> str:
    """The whole file; names and reasons are untrusted and cannot become formulas."""
    stream = io.StringIO()
    writer = csv.writer(stream)  # lines end as RFC 4180 says
    metrics = [one for one in report.descriptors if _measured(report, one)]
    writer.writerow(map(safe, [*_FACTS, *(name for one in metrics for name in _heads(one))]))
    real = [REAL, "", REAL, *[""] * (len(_FACTS) - 3)]
    floors = {one.name: floor(report, one.name) for one in metrics}
    writer.writerow([*real, *_values(floors, metrics)])
    for row in report.rows:
        writer.writerow([*map(safe, _facts(row)), *_values(row.figures, metrics)])
    return stream.getvalue()


def safe(text: str) -> str:
    """A text that no spreadsheet takes for a formula: a quote stands before one."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _measured(report: Report, one: Descriptor) -> bool:
    rows = [report.real, *(row.figures for row in report.rows)]
    return any(figures.get(one.name) is not None for figures in rows)


def _heads(one: Descriptor) -> list[str]:
    """Value and ends of the 95 % interval, in the unit that the value is stored in."""
    name = one.full_name or one.name
    named = f"{name} [{one.unit}]" if one.unit else name
    return [named, f"{named} low", f"{named} high"]


def _facts(row: Row) -> list[str]:
    state = absence(row) or ("evaluated" if row.evaluated else "measured")
    drawn = row.generation
    ways = ["", "", ""]
    if drawn is not None:
        ways = [drawn.sampler, str(drawn.steps), f"{drawn.guidance_scale:g}"]
    names = [row.name, row.model, row.role, row.runtime, row.precision]
    reason = row.absent or row.evaluated or (TIMED_BUSY if row.busy else "")
    return [*names, row.target or "", row.device, state, reason, *ways]


def _values(figures: dict[str, Figure | None], metrics: Sequence[Descriptor]) -> list[str]:
    cells: list[str] = []
    for one in metrics:
        figure = figures.get(one.name)
        found = (figure.value, figure.low, figure.high) if figure else (None, None, None)
        cells += ["" if value is None else repr(value) for value in found]
    return cells
