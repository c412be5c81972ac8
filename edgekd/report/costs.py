"""Tables of what a whole process costs: cold start, memory, energy, and how cost grows."""

from __future__ import annotations

from edgekd.report import format as fmt
from edgekd.report.costs_schema import Scaling, ScalingAxis
from edgekd.report.schema import Report, Row
from edgekd.report.table import (
    Cell,
    Table,
    absent_cell,
    names_first,
    plain_cells,
    row_kind,
    without_empty_columns,
)

AXES: dict[ScalingAxis, str] = {
    "batch": "pictures at once",
    "side": "side in pixels",
    "steps": "denoising steps",
    "threads": "threads",
}


def start_table(report: Report) -> Table | None:
    """From the start of a fresh process to its first picture."""
    if not any(row.start for row in report.rows):
        return None
    head = ["row", "runtime", "process", "load", "first picture", "in all", "samples"]
    rows = []
    for row in report.rows:
        start = row.start
        if start is None:
            cells = [absent_cell(row, fmt.MISSING), *[Cell()] * 4]
        else:
            values = (start.process_ms, start.load_ms, start.first_picture_ms, start.total_ms)
            cells = [Cell(fmt.milliseconds(value), value) for value in values]
            cells.append(Cell(str(len(start.samples_ms)), len(start.samples_ms)))
        rows.append([*names_first(row), *cells])
    caption = "Cold start: from the start of a fresh process to its first picture, medians"
    return Table(head, rows, [row_kind(row) for row in report.rows], caption)


def memory_table(report: Report) -> Table | None:
    """Resident memory of a fresh process that loads a row and draws one picture."""
    if not any(row.memory for row in report.rows):
        return None
    head = ["row", "runtime", "peak", "Python and libraries", "loaded", "the pipeline itself"]
    rows = [[*names_first(row), *_memory_cells(row)] for row in report.rows]
    kinds = [row_kind(row) for row in report.rows]
    caption = "Resident memory of a fresh process"
    return without_empty_columns(Table([*head, "accelerator, peak"], rows, kinds, caption))


def _memory_cells(row: Row) -> list[Cell]:
    memory = row.memory
    if memory is None:
        return [absent_cell(row), *[Cell()] * 4]
    values = (
        memory.peak_bytes,
        memory.baseline_bytes,
        memory.loaded_bytes,
        memory.above_baseline_bytes,
        memory.device_peak_bytes,
    )
    return [Cell(fmt.size(value), value) for value in values]


def energy_table(report: Report) -> Table | None:
    """Joules of a picture; None where no row has any, which the environment says then."""
    if not any(row.energy and row.energy.joules is not None for row in report.rows):
        return None
    rows = []
    for row in report.rows:
        if row.energy is None:
            cells = [absent_cell(row, fmt.MISSING), Cell()]
        elif row.energy.joules is None:
            cells = [Cell("not available", mark=True), Cell(row.energy.source)]
        else:
            joules = row.energy.joules
            cells = [Cell(f"{fmt.number(joules)} J", joules), Cell(row.energy.source)]
        rows.append([*names_first(row), *cells])
    kinds = [row_kind(row) for row in report.rows]
    return Table(["row", "runtime", "a picture", "counter"], rows, kinds, "Energy")


def scaling_table(report: Report) -> Table | None:
    """Latency and memory at each value of each axis, with the fitted exponent."""
    if not report.scaling:
        return None
    rows = [_scaling_cells(one) for one in report.scaling]
    head = ["row", "axis", "exponent", "R²", "latency of a call", "peak memory"]
    caption = "How cost grows: latency = c · value^exponent, fitted in logarithms"
    return without_empty_columns(Table(head, rows, [""] * len(rows), caption))


def training_table(report: Report) -> Table | None:
    """Where the time of training steps went, by phase."""
    costs = report.training
    if not costs:
        return None
    parts = [*dict.fromkeys(part for cost in costs.values() for part in cost.parts)]
    rows = []
    for phase, cost in costs.items():
        whole = sum(cost.parts.values())
        shares = [cost.parts.get(part) for part in parts]
        cells = [Cell() if s is None else Cell(f"{s / whole:.0%}", s) for s in shares]
        peak = Cell() if cost.peak_bytes is None else Cell(fmt.size(cost.peak_bytes))
        rate = Cell(fmt.significant(cost.samples_per_s), cost.samples_per_s)
        rows.append([*plain_cells(phase), rate, *cells, peak])
    head = ["training", "samples a second", *parts, "peak memory"]
    caption = "Training: a step's parts, in shares of its time; medians of measured steps"
    return Table(head, rows, [""] * len(rows), caption)


def _scaling_cells(one: Scaling) -> list[Cell]:
    latencies = [
        f"{value}: {fmt.milliseconds(latency)}"
        for value, latency in zip(one.values, one.latency_ms, strict=True)
    ]
    peaks = [
        f"{value}: {fmt.size(peak)}"
        for value, peak in zip(one.values, one.peak_bytes, strict=True)
        if peak is not None
    ]
    return [
        *plain_cells(one.row, AXES[one.axis]),
        Cell(f"{one.exponent:.2f}", one.exponent),
        Cell(f"{one.r_squared:.3f}", one.r_squared),
        *plain_cells(", ".join(latencies), ", ".join(peaks) or fmt.MISSING),
    ]
