"""Time and memory of every subject, measured once per content and machine."""

from __future__ import annotations

from typing import Any

from edgekd.artifacts import read_json, write_json
from edgekd.benchmark.drawing import Bench
from edgekd.benchmark.subjects import Subject
from edgekd.benchmark.workers import WorkerPool, thread_environment
from edgekd.measure.environment import cpu, versions
from edgekd.measure.memory import finish_peak_memory, start_peak_memory
from edgekd.progress import Progress

_MEMORY_ENTRY = "edgekd.benchmark.generate:draw_one"
# Memory does not depend on who runs beside: two at a time hide each other's imports.
_AT_ONCE = 2


def speed_of_all(bench: Bench, pool: WorkerPool, progress: Progress) -> dict[str, Any] | None:
    """Latencies of all subjects; one worker times them in turns while the others rest."""
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

    def measure() -> Any:
        progress.info(f"timing {len(subjects)} subjects in turns on {speed.threads} thread(s)")
        request = {
            "operation": "speed",
            "subjects": [subject.to_dict() for subject in subjects],
            **settings,
        }
        return pool.ask_one(request)

    names = [[subject.name, bench.keys[subject.name]] for subject in subjects]
    found: dict[str, Any] = bench.cache.json("speed", [names, settings, cpu(), versions()], measure)
    return found


def memory_payload(bench: Bench, subject: Subject, threads: int) -> dict[str, Any]:
    """The work of one memory measurement; see `edgekd.benchmark.generate.draw_one`."""
    return {
        "subject": subject.to_dict(),
        "threads": threads,
        "generation": bench.suite.generation.model_copy(update={"steps": 1}).model_dump(),
        "caption": bench.prompts.captions[0],
        "resolution": bench.data.resolution,
        "seed": bench.suite.quality.seed,
    }


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
    missing = [subject for subject in bench.timed if not paths[subject.name].is_file()]
    if missing:
        with progress.track("peak memory in fresh processes", len(missing)) as advance:
            for start in range(0, len(missing), _AT_ONCE):
                pair = missing[start : start + _AT_ONCE]
                started = [
                    start_peak_memory(
                        _MEMORY_ENTRY,
                        memory_payload(bench, subject, threads),
                        thread_environment(threads),
                    )
                    for subject in pair
                ]
                try:
                    for subject, process in zip(pair, started, strict=True):
                        write_json(paths[subject.name], finish_peak_memory(process).to_dict())
                        advance(1)
                finally:
                    for process in started:
                        process.kill()
    return {name: read_json(path) for name, path in paths.items()}
