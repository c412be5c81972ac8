"""Tables of what rows cost: time, size, and the parity of exports."""

from __future__ import annotations

from edgekd.metrics import latency_p99
from edgekd.report import format as fmt
from edgekd.report.costs_schema import Timing
from edgekd.report.schema import Parity, Report, Row
from edgekd.report.table import (
    Cell,
    Table,
    absent_cell,
    names_first,
    row_kind,
    without_empty_columns,
)

COMPONENTS = {
    "text_encoder": "text encoder",
    "text_encoder_2": "text encoder 2",
    "unet": "U-Net, batch 1",
    "unet_guided": "U-Net, guided (batch 2)",
    "vae_decoder": "VAE decoder",
    "image": "whole picture",
}


# Of fewer samples these are their largest value or a point between the largest two.
_FOR_P90, _FOR_P99 = 10, latency_p99.SAMPLES


def speed_table(report: Report) -> Table | None:
    """Percentiles of each component and of the whole picture."""
    timed = [row for row in report.rows if row.speed]
    if not timed:
        return None
    present = {part for row in timed for part in row.speed}
    parts = [part for part in COMPONENTS if part in present]
    head = ["row", "runtime", *[COMPONENTS[part] for part in parts]]
    head += ["first picture", "processor time, whole picture", "measured again"]
    rows = [[*names_first(row), *_speed_cells(row, parts)] for row in report.rows]
    kinds = [row_kind(row) for row in report.rows]
    caption = f"Latency in ms, p50; p90 from {_FOR_P90} and p99 from {_FOR_P99} samples on"
    return without_empty_columns(Table(head, rows, kinds, caption))


def _speed_cells(row: Row, parts: list[str]) -> list[Cell]:
    if not row.speed:
        return [absent_cell(row)] * len(parts) + [Cell()] * 3
    image = row.speed["image"]
    first = image.warmup_ms[0] if image.warmup_ms else None
    return [
        *(_percentiles(row.speed.get(part)) for part in parts),
        Cell(fmt.number(first), first),
        Cell(fmt.number(image.cpu_p50_ms), image.cpu_p50_ms),
        _again(image),
    ]


def _percentiles(latency: Timing | None) -> Cell:
    if latency is None:
        return Cell()
    count = len(latency.samples_ms)
    values = [latency.p50_ms]
    values += [latency.p90_ms] if count >= _FOR_P90 else []
    values += [latency.p99_ms] if count >= _FOR_P99 else []
    return Cell(" / ".join(map(fmt.number, values)), latency.p50_ms)


def _again(timing: Timing) -> Cell:
    """How often other work spoilt the samples, where it did."""
    if not timing.repeats and not timing.busy:
        return Cell()
    text = f"{timing.repeats} times" if timing.repeats != 1 else "once"
    return Cell(f"{text}, busy to the end" if timing.busy else text, timing.repeats)


def component_table(report: Report) -> Table:
    """Parameters and bytes per component."""
    names: list[str] = []
    for row in report.rows:
        names += [name for name in row.component_bytes if name not in names]
    names = [name for name in names if any(_large(row, name) for row in report.rows)]
    rows = []
    for row in report.rows:
        rows.append([*names_first(row), *(_component_cell(row, name) for name in names)])
    kinds = [row_kind(row) for row in report.rows]
    return Table(["row", "runtime", *names], rows, kinds, "Parameters and size per component")


def _component_cell(row: Row, name: str) -> Cell:
    held, parameters = row.component_bytes.get(name), row.component_parameters.get(name)
    if not held:
        return Cell()
    parts = [fmt.count(parameters)] if parameters else []
    return Cell(", ".join([*parts, fmt.size(held)]), held)


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
        cells = names_first(row)
        cells += [_parity_cell(row.parity.get(name)) for name in names]
        rows.append([*cells, Cell(_executors(row))])
    kinds = [row_kind(row) for row in exported]
    head = ["row", "runtime", *names, "executed by"]
    return Table(head, rows, kinds, "Parity: worst SNR of each component to torch (and its floor)")


def _parity_cell(parity: Parity | None) -> Cell:
    if parity is None:
        return Cell()
    cell = f"{fmt.decibel(parity.snr_db)} (≥ {fmt.number(parity.floor_db)})"
    if parity.deployed_snr_db is None:
        return Cell(cell, parity.snr_db)
    deployed = fmt.decibel(parity.deployed_snr_db)
    as_deployed = f"as deployed {deployed} (≥ {fmt.number(parity.deployed_floor_db)})"
    return Cell(f"{cell}; {as_deployed}", parity.snr_db)


def _executors(row: Row) -> str:
    found = [
        name
        for parity in row.parity.values()
        for name in (parity.executed_by, parity.deployed_executed_by)
        if name
    ]
    return ", ".join(sorted(set(found)))
