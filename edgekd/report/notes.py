"""How each figure was measured, and on what."""

from __future__ import annotations

from typing import Any

from edgekd.report import format as fmt

Report = dict[str, Any]


def environment_items(report: Report) -> list[tuple[str, str]]:
    """What the figures were measured on, as label and text."""
    environment = report["environment"]
    cpu = environment["cpu"]
    sets = f" ({', '.join(cpu['instruction_sets'])})" if cpu["instruction_sets"] else ""
    items = [
        ("Processor", f"{cpu['model']}{sets}, {environment['cores']} cores"),
        ("Memory", fmt.size(environment["ram_bytes"])),
        ("System", f"{environment['os']}, {environment['machine']}"),
        ("Python", environment["python"]),
    ]
    speed, load = report["suite"]["speed"], report["load_average_before_timing"]
    if speed is not None:
        items.append(("Threads while timing", str(speed["threads"])))
    if load is not None:
        items.append(("Load average before timing", f"{load:.2f}"))
    versions = environment["versions"].items()
    items.append(("Versions", ", ".join(f"{name} {version}" for name, version in versions)))
    return items


def notes(report: Report) -> list[tuple[str, str]]:
    """How each figure was measured, as term and text."""
    suite, data, names = report["suite"], report["data"], report["metric_names"]
    generation = suite["generation"]
    kinds = ", ".join(f"{count} {kind}" for kind, count in data["prompts_by_holdout"].items())
    items = [
        (
            "Pictures",
            f"{data['prompts']} captions of held-out images ({kinds}), {generation['steps']} steps "
            f"of {generation['scheduler']}, guidance {generation['guidance_scale']:g}, "
            f"{data['resolution']}x{data['resolution']} pixels. Every row starts from the same "
            f"noise: one generator per prompt, seed {suite['quality']['seed']}.",
        ),
        (
            names["fd"],
            f"Fréchet distance between {data['prompts']} pictures and {data['reference']} other "
            "held-out images. It depends on both counts: compare rows of one report only. The row "
            "of real images is its floor.",
        ),
        (
            names["kid"],
            "Squared maximum mean discrepancy, mean ± standard deviation over subsets; unbiased, "
            "so it may be slightly below 0.",
        ),
        (
            names["score"],
            "100 x cosine of image and caption embedding, negative values count as 0; mean ± "
            "standard error. Differences of scores pair pictures of the same caption and noise.",
        ),
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
    if suite["speed"] is not None:
        items.append(("Latency", _latency_note(suite)))
    if suite["memory"]:
        items.append(
            (
                "Peak memory",
                "High-water mark of resident memory in a fresh process that loads the row and "
                "draws one picture; `Python and libraries` is what was resident before.",
            )
        )
    return items


def _latency_note(suite: dict[str, Any]) -> str:
    speed = suite["speed"]
    return (
        f"Batch 1, {speed['threads']} thread(s). All rows are timed in turns in one process, "
        f"rotating who starts. Whole pictures: 1 warm-up (`first picture`), then "
        f"{speed['image_runs']} samples. Components: {speed['warmup']} warm-ups, then "
        f"{speed['component_runs']} samples, on inputs recorded while drawing. Processor time is "
        "what the process itself used: on one thread, the latency of an idle machine. "
        "Percentiles are interpolated linearly; all raw samples are in report.json."
    )
