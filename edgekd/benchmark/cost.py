"""Time and memory of every subject, measured once per content and machine."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from edgekd.artifacts import read_json, write_json
from edgekd.benchmark.drawing import Bench
from edgekd.benchmark.subjects import TORCH
from edgekd.benchmark.suite import GenerationSection
from edgekd.benchmark.workers import Batch, Timing, draw_batch, time_subjects
from edgekd.measure.environment import cpu, versions
from edgekd.measure.memory import measured
from edgekd.processes.pool import Pool
from edgekd.progress import Progress

# Memory does not depend on who runs beside: two at a time hide each other's imports.
_AT_ONCE = 2


def speed_of_all(bench: Bench, pool: Pool, progress: Progress) -> dict[str, Any] | None:
    """Latencies of all subjects; one process times them in turns while the others rest."""
    speed = bench.suite.speed
    if speed is None:
        return None
    subjects = bench.timed
    settings = {
        "generation": bench.suite.generation.model_dump(),
        "speed": speed.model_dump(),
        "resolution": bench.data.resolution,
        "caption": bench.prompts.captions[0],
    }

    timing = Timing(
        subjects, bench.prompts.captions[0], bench.suite.generation, speed, bench.data.resolution
    )

    def measure() -> Any:
        progress.info(f"timing {len(subjects)} subjects in turns on {speed.threads} thread(s)")
        return pool.submit(time_subjects, timing).result()

    names = [[subject.name, bench.keys[subject.name]] for subject in subjects]
    found: dict[str, Any] = bench.cache.json("speed", [names, settings, cpu(), versions()], measure)
    return found


def memory_of_all(bench: Bench, progress: Progress) -> dict[str, Any] | None:
    """Peak memory of each subject in a fresh process: load and draw one picture.

    One denoising step is drawn: the second needs no more than the first.
    """
    if not bench.suite.memory:
        return None
    threads = bench.suite.speed.threads if bench.suite.speed else 1
    paths = {
        subject.name: bench.cache.path("memory", [bench.drawing_key(subject), threads], ".json")
        for subject in bench.timed
    }
    orders = [
        replace(bench.batch(subject, range(1), threads), generation=_one_step(bench))
        for subject in bench.timed
        if not paths[subject.name].is_file()
    ]
    if orders:
        work = functools.partial(measured, draw_batch, preload=_preload)
        with (
            progress.track("peak memory in fresh processes", len(orders)) as advance,
            Pool("measure peak memory", _AT_ONCE, threads, fresh=True) as pool,
        ):
            for order, found in pool.each(work, orders):
                write_json(paths[order.subject.name], found.memory.to_dict())
                advance(1)
    return {name: read_json(path) for name, path in paths.items()}


def _one_step(bench: Bench) -> GenerationSection:
    return bench.suite.generation.model_copy(update={"steps": 1})


def _preload(batch: Batch) -> None:
    """Import a subject's libraries (see `measured`)."""
    from edgekd.libraries import diffusers

    runtime = batch.subject.runtime
    for name in ("StableDiffusionPipeline", "StableDiffusionXLPipeline"):
        getattr(diffusers, name)
    if runtime == TORCH:
        import edgekd.diffusion.load  # noqa: F401

        return
    from edgekd.export.registry import get_exporter

    get_exporter(runtime)
    if runtime == "onnx":
        from optimum.onnxruntime import ORTDiffusionPipeline  # noqa: F401
    if runtime == "openvino":
        from optimum.intel import OVDiffusionPipeline  # noqa: F401
