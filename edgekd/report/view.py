"""From the figures of `report.json` to the texts of the page: no figure is computed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgekd.report import format as fmt

Report = dict[str, Any]
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
class Card:
    """One headline ratio; `verdict` is `better`, `worse`, `same` or empty."""

    title: str
    ratio: str
    student: str
    teacher: str
    note: str
    verdict: str


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row; `notes` mark rows that have no figures."""

    head: list[str]
    rows: list[list[str]]
    kinds: list[str]
    caption: str = ""


_CARDS = (
    ("parameters", "Parameters", fmt.count, "lower"),
    ("latency_ms", "Latency per picture, p50", fmt.milliseconds, "lower"),
    ("peak_bytes", "Peak memory", fmt.size, "lower"),
    ("peak_above_baseline_bytes", "Peak memory without Python and libraries", fmt.size, "lower"),
    ("size_bytes", "Size on disk", fmt.size, "lower"),
    ("fd", "FD to real images", fmt.number, "lower"),
    ("score", "Caption score", fmt.number, "higher"),
)
# Ratios nearer to 1 than this are called the same: below the noise of any of these figures.
_SAME = 0.01
# Rows that a row is compared with, picture by picture.
_OTHERS = ("to_teacher", "to_student", "to_torch")
# Wall-clock over processor time of a picture above which the machine was not quiet.
_BUSY = 1.25


def cards(report: Report) -> list[Card]:
    """Headline ratios, student / teacher; figures the suite did not ask for are left out."""
    metrics = report["metrics"]
    if metrics["student"] is None:
        return []
    made = []
    for key, title, text, direction in _CARDS:
        teacher, student = metrics["teacher"][key], metrics["student"][key]
        ratio = metrics["ratios"][key]
        if teacher is None or student is None or (key == "size_bytes" and ratio is None):
            continue
        made.append(
            Card(
                title,
                fmt.factor(ratio),
                text(student),
                text(teacher),
                f"{direction} is better",
                _verdict(ratio, direction),
            )
        )
    return made


def torch_latency(report: Report) -> str | None:
    """What torch needs here for both models, where the deployed runtime was not executed."""
    figures = report["metrics"].get("torch_latency_ms")
    if figures is None:
        return None
    return (
        f"The deployed runtime was not executed here. In torch, on this machine, a picture takes "
        f"the student {fmt.milliseconds(figures['student'])} and the teacher "
        f"{fmt.milliseconds(figures['teacher'])} ({fmt.factor(figures['ratio'])}); this says "
        "nothing certain about the device."
    )


def _verdict(ratio: float | None, direction: str) -> str:
    if ratio is None:
        return ""
    if abs(ratio - 1) < _SAME:
        return "same"
    return "better" if (ratio < 1) == (direction == "lower") else "worse"


def runtime_name(row: dict[str, Any]) -> str:
    return f"{row['runtime']} {row['precision']}"


def _kind(row: dict[str, Any]) -> str:
    return "absent" if row["not_executed"] else str(row["role"])


def matrix_table(report: Report) -> Table:
    """Real images, then every row: quality, latency, memory and size."""
    head = ["row", "runtime", "FD ↓", "1000 KID ↓", "score ↑", "latency p50", "peak memory"]
    head += ["parameters", "size"]
    real = ["real images", fmt.MISSING, *_quality_cells(report["real"]), *[fmt.MISSING] * 4]
    rows, kinds = [real], ["real"]
    for row in report["rows"]:
        cells = [row["name"], runtime_name(row)]
        if row["quality"] is None:
            cells += [NOT_EXECUTED, *[fmt.MISSING] * 4]
        else:
            cells += _quality_cells(row["quality"])
            cells += _cost_cells(report, row)
        cells += [fmt.count(row["parameters"]), _stored_size(row)]
        rows.append(cells)
        kinds.append(_kind(row))
    return without_empty_columns(Table(head, rows, kinds, "Quality, latency, memory, size"))


def _stored_size(row: dict[str, Any]) -> str:
    """Size of the folder, and the type of its weights where the row's precision is not theirs."""
    dtype = row["stored_dtype"]
    return fmt.size(row["size_bytes"]) + (f" ({dtype})" if dtype else "")


def without_empty_columns(table: Table) -> Table:
    """The table without columns in which no row has a figure."""
    kept = [
        index
        for index in range(len(table.head))
        if any(row[index] != fmt.MISSING for row in table.rows)
    ]
    rows = [[row[index] for index in kept] for row in table.rows]
    return Table([table.head[index] for index in kept], rows, table.kinds, table.caption)


def _cost_cells(report: Report, row: dict[str, Any]) -> list[str]:
    """Latency and peak memory; a row that was evaluated has neither."""
    suite = report["suite"]
    asked = (suite["speed"] is not None, suite["memory"])
    if row["evaluated"]:
        return [NOT_EXECUTED if wanted else fmt.MISSING for wanted in asked]
    return [
        fmt.milliseconds(row["speed"] and row["speed"]["image"]["p50_ms"]),
        fmt.size(row["memory"] and row["memory"]["peak_bytes"]),
    ]


def _quality_cells(quality: dict[str, Any]) -> list[str]:
    return [
        fmt.number(quality["fd"]),
        fmt.with_error(1000 * quality["kid"], 1000 * quality["kid_standard_deviation"]),
        fmt.with_error(quality["score"], quality["score_standard_error"]),
    ]


def agreement_table(report: Report) -> Table | None:
    """Pictures of the same caption and noise: each row against the teacher and other rows."""
    kept = [
        row
        for row in report["rows"]
        if row["quality"] and any(row["quality"][other] for other in _OTHERS)
    ]
    if not kept:
        return None
    head = ["row", "runtime", "score - teacher's", "PSNR to teacher", "feature cosine to teacher"]
    head += ["score - first student's", "PSNR to its torch row"]
    rows = [
        [
            row["name"],
            runtime_name(row),
            _score_difference(row, "to_teacher"),
            _psnr(row, "to_teacher"),
            _cosine(row),
            _score_difference(row, "to_student"),
            _psnr(row, "to_torch"),
        ]
        for row in kept
    ]
    kinds = [_kind(row) for row in kept]
    caption = "Agreement of pictures from the same noise"
    return without_empty_columns(Table(head, rows, kinds, caption))


def _score_difference(row: dict[str, Any], other: str) -> str:
    figures = row["quality"][other]
    if figures is None:
        return fmt.MISSING
    error = figures["score_difference_standard_error"]
    return f"{figures['score_difference']:+.2f} ± {error:.2f}"


def _psnr(row: dict[str, Any], other: str) -> str:
    figures = row["quality"][other]
    return fmt.decibel(figures["psnr_db"] if figures else None)


def _cosine(row: dict[str, Any]) -> str:
    figures = row["quality"]["to_teacher"]
    return f"{figures['feature_cosine']:.3f}" if figures else fmt.MISSING


def speed_table(report: Report) -> Table | None:
    """p50 / p90 of each component and of the whole picture."""
    timed = [row for row in report["rows"] if row["speed"]]
    if not timed:
        return None
    present = {part for row in timed for part in row["speed"]}
    parts = [part for part in COMPONENTS if part in present]
    head = ["row", "runtime", *[COMPONENTS[part] for part in parts]]
    head += ["first picture", "processor time, whole picture"]
    rows, kinds = [], []
    for row in report["rows"]:
        cells = [row["name"], runtime_name(row)]
        if row["speed"] is None:
            cells += [NOT_EXECUTED, *[fmt.MISSING] * (len(parts) + 1)]
        else:
            cells += [_percentiles(row["speed"].get(part)) for part in parts]
            cells.append(fmt.number(row["speed"]["image"]["warmup_ms"][0]))
            cells.append(fmt.number(row["speed"]["image"]["cpu_p50_ms"]))
        rows.append(cells)
        kinds.append(_kind(row))
    return Table(head, rows, kinds, "Latency in ms, p50 / p90")


def _percentiles(latency: dict[str, Any] | None) -> str:
    if latency is None:
        return fmt.MISSING
    return f"{fmt.number(latency['p50_ms'])} / {fmt.number(latency['p90_ms'])}"


def memory_table(report: Report) -> Table | None:
    """Peak resident memory of a fresh process that loads a row and draws one picture."""
    if not any(row["memory"] for row in report["rows"]):
        return None
    head = ["row", "runtime", "peak", "Python and libraries", "the pipeline itself"]
    rows, kinds = [], []
    for row in report["rows"]:
        memory = row["memory"]
        cells = [row["name"], runtime_name(row)]
        if memory is None:
            cells += [NOT_EXECUTED, fmt.MISSING, fmt.MISSING]
        else:
            names = ("peak_bytes", "baseline_bytes", "above_baseline_bytes")
            cells += [fmt.size(memory[name]) for name in names]
        rows.append(cells)
        kinds.append(_kind(row))
    return Table(head, rows, kinds, "Peak resident memory in a fresh process")


def component_table(report: Report) -> Table:
    """Parameters and bytes per component."""
    names: list[str] = []
    for row in report["rows"]:
        names += [name for name in row["component_bytes"] if name not in names]
    names = [name for name in names if any(_large(row, name) for row in report["rows"])]
    rows = []
    for row in report["rows"]:
        cells = [row["name"], runtime_name(row)]
        for name in names:
            parameters = (row["component_parameters"] or {}).get(name)
            parts = [fmt.count(parameters)] if parameters else []
            held = row["component_bytes"].get(name)
            cells.append(", ".join([*parts, fmt.size(held)]) if held else fmt.MISSING)
        rows.append(cells)
    kinds = [_kind(row) for row in report["rows"]]
    return Table(["row", "runtime", *names], rows, kinds, "Parameters and size per component")


def _large(row: dict[str, Any], name: str) -> bool:
    """Tokenizers and scheduler configs weigh next to nothing: no column for them."""
    weights = (row["component_parameters"] or {}).get(name)
    return bool(weights) or row["component_bytes"].get(name, 0) > 10**6


def parity_table(report: Report) -> Table | None:
    """Worst SNR of each exported component against torch, and the floor it had to pass."""
    exported = [row for row in report["rows"] if row["parity"]]
    if not exported:
        return None
    names = list(dict.fromkeys(name for row in exported for name in row["parity"]))
    rows = []
    for row in exported:
        cells = [row["name"], runtime_name(row)]
        cells += [_parity_cell(row["parity"].get(name)) for name in names]
        rows.append([*cells, _executors(row)])
    kinds = [_kind(row) for row in exported]
    head = ["row", "runtime", *names, "executed by"]
    return Table(head, rows, kinds, "Parity: worst SNR of each component to torch (and its floor)")


def _parity_cell(parity: dict[str, Any] | None) -> str:
    if parity is None:
        return fmt.MISSING
    cell = f"{fmt.decibel(parity['snr_db'])} (≥ {fmt.number(parity['floor_db'])})"
    if parity.get("deployed_snr_db") is None:
        return cell
    deployed = fmt.decibel(parity["deployed_snr_db"])
    return f"{cell}; as deployed {deployed} (≥ {fmt.number(parity['deployed_floor_db'])})"


def _executors(row: dict[str, Any]) -> str:
    found = [
        str(parity[name])
        for parity in row["parity"].values()
        for name in ("executed_by", "deployed_executed_by")
        if parity.get(name)
    ]
    return ", ".join(sorted(set(found)))


def busy_warning(report: Report) -> str | None:
    """A sentence where other work held the cores while times were taken, else None.

    On one thread, wall-clock above processor time is waiting for a core.
    """
    speed = report["suite"]["speed"]
    timed = [row["speed"]["image"] for row in report["rows"] if row["speed"]]
    if not timed or speed["threads"] != 1:
        return None
    waiting = max(latency["p50_ms"] / latency["cpu_p50_ms"] for latency in timed)
    if waiting < _BUSY:
        return None
    return (
        f"Other work held the cores while times were taken: pictures took up to {waiting:.1f} "
        "times their processor time. Latencies and their ratios are not to be trusted; measure "
        "again on a quiet machine."
    )
