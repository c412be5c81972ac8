"""Tables of what rows cost: time, memory, size, and the parity of exports."""

from __future__ import annotations

from dataclasses import dataclass

from edgekd.report import format as fmt
from edgekd.report.schema import Parity, Report, Row, Timing

COMPONENTS = {
    "text_encoder": "text encoder",
    "text_encoder_2": "text encoder 2",
    "unet": "U-Net, batch 1",
    "unet_guided": "U-Net, guided (batch 2)",
    "vae_decoder": "VAE decoder",
    "image": "whole picture",
}
NOT_EXECUTED = "not executed"


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row; `notes` mark rows that have no figures."""

    head: list[str]
    rows: list[list[str]]
    kinds: list[str]
    caption: str = ""


def runtime_name(row: Row) -> str:
    return f"{row.runtime} {row.precision}"


def row_kind(row: Row) -> str:
    return str(row.role) if row.drawn else "absent"


def without_empty_columns(table: Table) -> Table:
    """The table without columns in which no row has a figure."""
    kept = [
        index
        for index in range(len(table.head))
        if any(row[index] != fmt.MISSING for row in table.rows)
    ]
    rows = [[row[index] for index in kept] for row in table.rows]
    return Table([table.head[index] for index in kept], rows, table.kinds, table.caption)


def speed_table(report: Report) -> Table | None:
    """p50 / p90 of each component and of the whole picture."""
    timed = [row for row in report.rows if row.speed]
    if not timed:
        return None
    present = {part for row in timed for part in row.speed}
    parts = [part for part in COMPONENTS if part in present]
    head = ["row", "runtime", *[COMPONENTS[part] for part in parts]]
    head += ["first picture", "processor time, whole picture"]
    rows, kinds = [], []
    for row in report.rows:
        cells = [row.name, runtime_name(row)]
        if not row.speed:
            cells += [NOT_EXECUTED, *[fmt.MISSING] * (len(parts) + 1)]
        else:
            cells += [_percentiles(row.speed.get(part)) for part in parts]
            cells.append(fmt.number(row.speed["image"].warmup_ms[0]))
            cells.append(fmt.number(row.speed["image"].cpu_p50_ms))
        rows.append(cells)
        kinds.append(row_kind(row))
    return Table(head, rows, kinds, "Latency in ms, p50 / p90")


def _percentiles(latency: Timing | None) -> str:
    if latency is None:
        return fmt.MISSING
    return f"{fmt.number(latency.p50_ms)} / {fmt.number(latency.p90_ms)}"


def memory_table(report: Report) -> Table | None:
    """Peak resident memory of a fresh process that loads a row and draws one picture."""
    if not any(row.memory for row in report.rows):
        return None
    head = ["row", "runtime", "peak", "Python and libraries", "the pipeline itself"]
    rows, kinds = [], []
    for row in report.rows:
        memory = row.memory
        cells = [row.name, runtime_name(row)]
        if memory is None:
            cells += [NOT_EXECUTED, fmt.MISSING, fmt.MISSING]
        else:
            values = (memory.peak_bytes, memory.baseline_bytes, memory.above_baseline_bytes)
            cells += [fmt.size(value) for value in values]
        rows.append(cells)
        kinds.append(row_kind(row))
    return Table(head, rows, kinds, "Peak resident memory in a fresh process")


def component_table(report: Report) -> Table:
    """Parameters and bytes per component."""
    names: list[str] = []
    for row in report.rows:
        names += [name for name in row.component_bytes if name not in names]
    names = [name for name in names if any(_large(row, name) for row in report.rows)]
    rows = []
    for row in report.rows:
        cells = [row.name, runtime_name(row)]
        for name in names:
            parameters = row.component_parameters.get(name)
            parts = [fmt.count(parameters)] if parameters else []
            held = row.component_bytes.get(name)
            cells.append(", ".join([*parts, fmt.size(held)]) if held else fmt.MISSING)
        rows.append(cells)
    kinds = [row_kind(row) for row in report.rows]
    return Table(["row", "runtime", *names], rows, kinds, "Parameters and size per component")


def _large(row: Row, name: str) -> bool:
    """Tokenizers and scheduler configs weigh next to nothing: no column for them."""
    weights = row.component_parameters.get(name)
    return bool(weights) or row.component_bytes.get(name, 0) > 10**6


def parity_table(report: Report) -> Table | None:
    """Worst SNR of each exported component against torch, and the floor it had to pass."""
    exported = [row for row in report.rows if row.parity]
    if not exported:
        return None
    names = list(dict.fromkeys(name for row in exported for name in row.parity))
    rows = []
    for row in exported:
        cells = [row.name, runtime_name(row)]
        cells += [_parity_cell(row.parity.get(name)) for name in names]
        rows.append([*cells, _executors(row)])
    kinds = [row_kind(row) for row in exported]
    head = ["row", "runtime", *names, "executed by"]
    return Table(head, rows, kinds, "Parity: worst SNR of each component to torch (and its floor)")


def _parity_cell(parity: Parity | None) -> str:
    if parity is None:
        return fmt.MISSING
    cell = f"{fmt.decibel(parity.snr_db)} (≥ {fmt.number(parity.floor_db)})"
    if parity.deployed_snr_db is None:
        return cell
    deployed = fmt.decibel(parity.deployed_snr_db)
    return f"{cell}; as deployed {deployed} (≥ {fmt.number(parity.deployed_floor_db)})"


def _executors(row: Row) -> str:
    found = [
        name
        for parity in row.parity.values()
        for name in (parity.executed_by, parity.deployed_executed_by)
        if name
    ]
    return ", ".join(sorted(set(found)))
