"""Runtime options of an exported U-Net, chosen by measurement and stored in its manifest.

Candidates differ from onnxruntime's defaults in one option each. All are timed in turns on the real
U-Net; one denoising step with guidance is the unit, so that one call of batch 2 stands against two
of batch 1. The defaults stay unless a candidate is clearly faster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.errors import InputError
from edgekd.export.manifest import Tuning, read_manifest, store_tuning
from edgekd.export.onnx.pipeline import OnnxRunner, model_file
from edgekd.export.unet_noise import unet_noise
from edgekd.measure.clock import Latency, time_interleaved
from edgekd.measure.environment import environment
from edgekd.runtime.options import RuntimeOptions

# Differences below it are noise on a machine that does other things too.
CLEARLY_FASTER = 0.97


def candidates(threads: int) -> dict[str, RuntimeOptions]:
    """What is compared; the defaults come first."""
    default = RuntimeOptions(threads=threads)
    found = {
        "default": default,
        "extended optimization": replace(default, optimization="extended"),
        "no memory pattern": replace(default, memory_pattern=False),
        "no arena": replace(default, arena=False),
        "two calls": replace(default, fused_guidance=False),
    }
    if threads > 1:
        found["one thread"] = replace(default, threads=1)
    return found


def tune(path: Path, threads: int, warmup: int = 2, runs: int = 15) -> Tuning:
    """Measure the options of an exported ONNX folder and store the best in its manifest.

    The files that clients load stay as they are, and so does the content hash.

    Args:
        path: exported folder.
        threads: most threads that a session may have.
        warmup, runs: rounds that do not count, and rounds that do.

    Returns:
        What is stored: `chosen` options, figures of every candidate, environment.

    Raises:
        InputError: no ONNX export; `threads < 1`; see `time_interleaved`.
    """
    if threads < 1:
        raise InputError("`threads >= 1` must hold", f"threads={threads}")
    manifest = read_manifest(path)
    if manifest.runtime != "onnx":
        raise InputError("the export to tune must be of runtime onnx", repr(manifest.runtime))
    options = candidates(threads)
    calls = {name: _step(path, chosen) for name, chosen in options.items()}
    latencies = time_interleaved(calls, warmup, runs)
    best = choose(latencies)
    result = {
        "chosen": asdict(options[best]),
        "name": best,
        "unit": "one step with guidance (two U-Net evaluations at the native size)",
        "runs": runs,
        "candidates": {
            name: {
                "options": asdict(options[name]),
                "p50_ms": round(latency.p50_ms, 3),
                "p90_ms": round(latency.p90_ms, 3),
            }
            for name, latency in latencies.items()
        },
        "environment": environment(),
    }
    return store_tuning(path, Tuning.model_validate(result))


def choose(latencies: dict[str, Latency]) -> str:
    """The fastest by its median, unless the first is nearly as fast.

    Ratios are taken within each round, where all candidates met the same machine.
    """
    names = list(latencies)
    reference = np.array(latencies[names[0]].samples_ms)
    ratios = {
        name: float(np.median(np.array(latencies[name].samples_ms) / reference)) for name in names
    }
    best = min(names, key=lambda name: ratios[name])
    return best if ratios[best] < CLEARLY_FASTER else names[0]


def _step(path: Path, options: RuntimeOptions) -> Callable[[], Any]:
    """One denoising step with guidance."""
    runner = OnnxRunner(model_file(path / "unet"), options.threads, options)
    inputs = unet_noise(path, 2)
    if options.fused_guidance:
        return lambda: runner(inputs)
    halves = [
        {name: value[i : i + 1] if value.ndim else value for name, value in inputs.items()}
        for i in (0, 1)
    ]
    return lambda: [runner(half) for half in halves]
