"""The place of a search in a report: its front, its choice, and how far both can be trusted."""

from __future__ import annotations

from edgekd.report import format as fmt
from edgekd.report.schema import Report
from edgekd.report.table import Cell, Table, plain_cells
from edgekd.search.result import FrontEntry, SearchResult

_MOST_ROWS = 12


def front_table(report: Report) -> Table | None:
    """The points of the front, the chosen one among them; long fronts are thinned."""
    if report.search is None:
        return None
    found = report.search
    shown = sorted({*_spread(len(found.front)), found.chosen.index})
    rows = [_row(found, index) for index in shown]
    kinds = ["student" if index == found.chosen.index else "" for index in shown]
    # The student comes last: its words are long.
    size = "size" if found.sizes == "measured" else "size (computed)"
    head = ["latency", "is", "teacher / student", "expected quality", size, "student"]
    caption = f"Front of the search, {found.searched_on.sentence}"
    if len(shown) < len(found.front):
        caption += f" ({len(shown)} of {len(found.front)} points)"
    return Table(head, rows, kinds, caption)


def _row(found: SearchResult, index: int) -> list[Cell]:
    one: FrontEntry = found.front[index]
    chosen = " (chosen)" if index == found.chosen.index else ""
    return [
        Cell(fmt.milliseconds(one.latency_ms), one.latency_ms),
        *plain_cells("measured" if one.measured else "predicted"),
        Cell(fmt.factor(one.speedup), one.speedup),
        Cell(f"{one.quality:.3f}", one.quality),
        Cell(fmt.size(one.bytes), one.bytes),
        *plain_cells(f"{one.label}{chosen}"),
    ]


def _spread(count: int) -> list[int]:
    """At most `_MOST_ROWS` indices, the ends among them."""
    most = min(count, _MOST_ROWS)
    return [round(i * (count - 1) / max(most - 1, 1)) for i in range(most)]


def search_sentences(report: Report) -> list[str]:
    """Why this student, and what the figures behind that are worth."""
    if report.search is None:
        return []
    found = report.search
    predictor, on = found.predictor, found.searched_on
    threads = "its own threads" if on.threads is None else f"{on.threads} thread(s)"
    said = [
        f"Chosen: {found.chosen.reason}.",
        f"Latencies were {on.sentence} ({', '.join(on.precision)}, {threads}, {on.device}), from "
        f"{predictor.measurements} measured graphs. {_errors(found)}",
        "Quality is expected, not measured: from what each change does to the teacher's "
        "predictions before any training, and from tables of steps and decoders.",
    ]
    return [*said, *found.notes, *(f"Note: {warning}." for warning in predictor.warnings)]


def _errors(found: SearchResult) -> str:
    predictor = found.predictor
    if not predictor.held_out or predictor.median_error is None or predictor.within_10 is None:
        return "How well they are predicted is not known."
    return (
        f"On {predictor.held_out} whole U-Nets that the prediction had not seen it was off by "
        f"{predictor.median_error:.1%} in the median; {predictor.within_10:.0%} were within 10 %, "
        f"rank correlation {predictor.spearman:.3f}."
    )
