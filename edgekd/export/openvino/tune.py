"""Runtime options of an exported folder, chosen by measurement and kept in its manifest.

What is tried, on a U-Net call of the shapes that drawing with guidance has: the arithmetic
(float32, or bf16 where the CPU has it) and the number of streams. Calls are timed in turns, so
that what else the machine does falls on all candidates alike. An fp32 export stays in float32:
that is what was asked for.

Only a candidate that is faster by more than `MARGIN` replaces the default.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekd.export.manifest import Tuning, read_manifest, store_tuning
from edgekd.export.openvino.pipeline import (
    OpenVinoRunner,
    default_arithmetic,
    deployed_arithmetic,
)
from edgekd.export.record import Arrays
from edgekd.export.unet_noise import unet_noise
from edgekd.measure.clock import Latency, time_interleaved
from edgekd.measure.environment import cores, cpu
from edgekd.runtime.openvino_backend import EXACT

MARGIN = 0.03
WARMUP, RUNS = 2, 7


def tune(path: Path, threads: int = 0) -> Tuning:
    """Measure the candidates for an exported folder and store the choice in its manifest.

    Args:
        threads: of every candidate; 0: one per physical core.

    Returns:
        `{"chosen": {"arithmetic", "threads", "streams"}, "measured": [{…, "p50_ms",
        "samples_ms"}], "cpu", "cores"}`, latencies in milliseconds.
    """
    candidates = _candidates(read_manifest(path).precision, threads)
    inputs = unet_noise(path, 2)
    runners = {
        _name(candidate): OpenVinoRunner(
            path / "unet",
            candidate["arithmetic"],
            threads,
            NUM_STREAMS=candidate["streams"],
        )
        for candidate in candidates
    }
    calls = {name: _call(runner, inputs) for name, runner in runners.items()}
    latencies = time_interleaved(calls, WARMUP, RUNS)
    del calls, runners
    gc.collect()
    result = {
        "chosen": choose(candidates, {name: value.p50_ms for name, value in latencies.items()}),
        "measured": [_row(candidate, latencies[_name(candidate)]) for candidate in candidates],
        "component": "unet, batch 2",
        "cpu": cpu(),
        "cores": cores(),
    }
    return store_tuning(path, Tuning.model_validate(result))


def choose(candidates: list[dict[str, Any]], p50_ms: dict[str, float]) -> dict[str, Any]:
    """The first candidate, or the fastest if it is faster by more than the margin."""
    default = candidates[0]
    fastest = min(candidates, key=lambda candidate: p50_ms[_name(candidate)])
    gain = 1 - p50_ms[_name(fastest)] / p50_ms[_name(default)]
    return fastest if gain > MARGIN else default


def _candidates(precision: str, threads: int) -> list[dict[str, Any]]:
    """Default first."""
    default = default_arithmetic(precision)
    kinds = [default]
    if precision != "fp32" and deployed_arithmetic() != EXACT:
        kinds = [default, EXACT]
    return [
        {"arithmetic": kind, "threads": threads, "streams": streams}
        for kind in kinds
        for streams in (1, 2)
        if streams == 1 or cores() > 1
    ]


def _name(candidate: dict[str, Any]) -> str:
    return f"{candidate['arithmetic']} {candidate['streams']}"


def _call(runner: OpenVinoRunner, inputs: Arrays) -> Callable[[], Any]:
    return lambda: runner(inputs)


def _row(candidate: dict[str, Any], latency: Latency) -> dict[str, Any]:
    samples = [round(value, 3) for value in latency.samples_ms]
    return {**candidate, "p50_ms": round(latency.p50_ms, 3), "samples_ms": samples}
