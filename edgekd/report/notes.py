"""How each figure was measured, and on what."""

from __future__ import annotations

from edgekd.report import format as fmt
from edgekd.report.schema import Report, SuiteSpeed


def environment_items(report: Report) -> list[tuple[str, str]]:
    """What the figures were measured on, as label and text."""
    environment = report.environment
    cpu = environment.cpu
    sets = f" ({', '.join(cpu.instruction_sets)})" if cpu.instruction_sets else ""
    items = [
        ("Processor", f"{cpu.model}{sets}, {environment.cores} cores"),
        ("Memory", fmt.size(environment.ram_bytes)),
        ("System", f"{environment.os}, {environment.machine}"),
        ("Python", environment.python),
    ]
    speed, load = report.suite.speed, report.load_average_before_timing
    if speed is not None:
        items.append(("Threads while timing", str(speed.threads)))
    if load is not None:
        items.append(("Load average before timing", f"{load:.2f}"))
    versions = environment.versions.items()
    items.append(("Versions", ", ".join(f"{name} {version}" for name, version in versions)))
    return items


def notes(report: Report) -> list[tuple[str, str]]:
    """How each figure was measured, as term and text."""
    suite, data = report.suite, report.data
    kinds = ", ".join(f"{count} {kind}" for kind, count in data.prompts_by_holdout.items())
    ways = {str(row.generation) for row in report.rows if row.generation}
    drawn = ways.pop() if len(ways) == 1 else "each row as its own folder says"
    items = [
        (
            "Pictures",
            f"{data.pictures} of {data.prompts} captions of held-out images ({kinds}), {drawn}, "
            f"{data.resolution}x{data.resolution} pixels. Every row starts from the same "
            f"noise: one generator per prompt, seed {suite.seed}.",
        ),
        *((one.full_name or one.label, one.note) for one in report.descriptors if one.note),
        (
            "PSNR",
            "Median over pairs of 8-bit pictures from the same noise; 100 dB stands for identical.",
        ),
    ]
    items.append(
        (
            "Size",
            "Bytes as stored. Torch runs every row in fp32, whatever type its folder holds: that "
            "type stands beside the size, and sizes of different types have no ratio.",
        )
    )
    if suite.speed is not None:
        items.append(("Latency", _latency_note(suite.speed)))
    if suite.memory:
        items.append(
            (
                "Peak memory",
                "High-water mark of resident memory in a fresh process that loads the row and "
                "draws one picture; `Python and libraries` is what was resident before.",
            )
        )
    return items


def _latency_note(speed: SuiteSpeed) -> str:
    return (
        f"Batch 1, {speed.threads} thread(s). Exported rows are timed in turns in one process "
        "without torch, rotating who starts, rows of torch in another. Whole pictures: 1 warm-up "
        f"(`first picture`), then {speed.image_runs} samples. Components: {speed.warmup} warm-ups, "
        f"then {speed.component_runs} samples, on inputs recorded while drawing. Processor time is "
        "what the process itself used: on one thread, the latency of an idle machine. "
        "Percentiles are interpolated linearly; all raw samples are in report.json."
    )
