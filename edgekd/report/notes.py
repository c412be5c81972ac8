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
    if environment.governor is not None:
        items.append(("Frequency governor", environment.governor))
    if environment.temperature_c is not None:
        items.append(("Temperature", f"{environment.temperature_c:.0f} °C"))
    if environment.throttled is not None:
        items.append(("Throttled while timing", "yes" if environment.throttled else "no"))
    speed, load = report.suite.speed, report.load_average_before_timing
    if speed is not None:
        items.append(("Threads while timing", str(speed.threads)))
    if load is not None:
        items.append(("Load average before timing", f"{load:.2f}"))
    energy = {row.energy.source for row in report.rows if row.energy}
    if energy:
        items.append(("Energy", "; ".join(sorted(energy))))
    versions = environment.versions.items()
    items.append(("Versions", ", ".join(f"{name} {version}" for name, version in versions)))
    return items


def notes(report: Report) -> list[tuple[str, str]]:
    """How each figure was measured, as term and text; only what this report has."""
    suite, rows = report.suite, report.rows
    items = [
        ("Pictures", _pictures_note(report)),
        *((one.full_name or one.label, one.note) for one in report.descriptors if one.note),
        ("PSNR", _PSNR),
        ("Size", _SIZE),
        ("Ratios", _RATIOS),
    ]
    if any(figure.low is not None for row in rows for figure in row.figures.values() if figure):
        items.append(("Intervals", _INTERVALS))
    if suite.speed is not None:
        items.append(("Latency", _latency_note(suite.speed)))
    if any(row.start for row in rows):
        items.append(("Cold start", _COLD_START))
    if suite.memory:
        items.append(("Memory", _MEMORY))
    if report.scaling:
        items.append(("Scalability", _SCALING))
    if report.nearness or report.embeddings:
        items.append(("Nearness of features", _NEARNESS))
    if any(one.method == "t-SNE" for one in report.projections):
        items.append(("t-SNE", _TSNE))
    return items


_PSNR = "Median over pairs of 8-bit pictures from the same noise; 100 dB stands for identical."
_SIZE = (
    "Bytes as stored. Torch runs every row in fp32, whatever type its folder holds: that type "
    "stands beside the size, and sizes of different types have no ratio."
)
_RATIOS = (
    "Below each figure of a student: its ratio to the teacher's row of the same runtime and "
    "device, of the same precision where there is one. No ratio: the teacher has no such row."
)
_INTERVALS = (
    "95 %, by bootstrap over pictures of this run. They do not cover other prompts or seeds, and "
    "rows of one report share both: differences of paired pictures are surer than the intervals."
)
_COLD_START = (
    "A fresh process each time, from its start to its first picture: interpreter and libraries, "
    "loading, drawing. Files may lie in the system's cache."
)
_MEMORY = (
    "High-water mark of resident memory in a fresh process that loads the row and draws one "
    "picture; `Python and libraries` is what was resident before, `loaded` what was when every "
    "part was loaded."
)
_SCALING = (
    "One value is changed at a time, the others stay as in the suite. The exponent is the slope "
    "of a least-squares line through logarithms: 1 is proportional, 2 quadratic, below 0 faster. "
    "Few points: read it with its R²."
)
_NEARNESS = (
    "Linear CKA (Kornblith et al. 2019): 1 is equal up to rotation and scale. Shared neighbours: "
    "share of each input's nearest neighbours that both agree on. Procrustes distance after the "
    "best rotation, shift and scale: 0 is equal. All in the features' own dimensions: they, not "
    "the projections, say how near two models are."
)
_TSNE = (
    "Distances between far points, sizes of clusters and their density mean nothing; another "
    "seed or perplexity gives another picture."
)


def _pictures_note(report: Report) -> str:
    data = report.data
    kinds = ", ".join(f"{count} {kind}" for kind, count in data.prompts_by_holdout.items())
    captions = "of the suite" if data.own_prompts else f"of held-out images ({kinds})"
    ways = {str(row.generation) for row in report.rows if row.generation}
    drawn = ways.pop() if len(ways) == 1 else "each row as its own folder says"
    return (
        f"{data.pictures} of {data.prompts} captions {captions}, {drawn}, "
        f"{data.resolution}x{data.resolution} pixels. Every row starts from the same "
        f"noise: one generator per prompt, seed {report.suite.seed}."
    )


def _latency_note(speed: SuiteSpeed) -> str:
    return (
        f"Batch 1, {speed.threads} thread(s). Exported rows are timed in turns in one process "
        "without torch, rotating who starts, rows of torch in another. Whole pictures: 1 warm-up "
        f"(`first picture`), then {speed.image_runs} samples. Components: {speed.warmup} warm-ups, "
        f"then {speed.component_runs} samples, on inputs recorded while drawing. Processor time is "
        "what the process itself used: on one thread, the latency of an idle machine. "
        "Percentiles are interpolated linearly; all raw samples are in report.json."
    )
