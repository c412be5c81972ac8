"""Time and memory of every row, measured once per content and machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgekd.artifacts import read_json, write_json
from edgekd.benchmark.cases import TORCH, Case
from edgekd.benchmark.matrix import Matrix
from edgekd.benchmark.orders import SpeedOrder, SpeedResult
from edgekd.benchmark.workers import WorkerPool, thread_environment
from edgekd.measure.environment import cpu, versions
from edgekd.measure.memory import PeakMemory, finish_peak_memory, start_peak_memory
from edgekd.progress import Progress

_MEMORY_ENTRY = "edgekd.benchmark.draw:draw_one"
# Memory does not depend on who runs beside: two at a time hide each other's imports.
_AT_ONCE = 2


def speed_of_all(matrix: Matrix, progress: Progress) -> SpeedResult | None:
    """Latencies of all rows: exported ones in turns in a process without torch, those of torch in
    turns in another."""
    if matrix.suite.speed is None:
        return None
    groups: dict[bool, list[Case]] = {False: [], True: []}
    for case in matrix.timed:
        groups[case.runtime == TORCH].append(case)
    found = [_timed(matrix, group, progress) for group in groups.values() if group]
    loads = [one.load_average for one in found if one.load_average is not None]
    timings = {name: parts for one in found for name, parts in one.timings.items()}
    return SpeedResult(load_average=min(loads, default=None), timings=timings)


def _timed(matrix: Matrix, cases: list[Case], progress: Progress) -> SpeedResult:
    assert matrix.suite.speed is not None
    order = SpeedOrder(
        cases=cases,
        caption=matrix.prompts.captions[0],
        resolution=matrix.data.resolution,
        speed=matrix.suite.speed,
    )

    def measure() -> Any:
        progress.info(f"timing {len(cases)} rows in turns on {order.speed.threads} thread(s)")
        with WorkerPool(1, order.speed.threads) as fresh:
            return fresh.ask_one(order.model_dump(mode="json"))

    names = [[case.name, matrix.keys[case.name]] for case in cases]
    settings = order.model_dump(mode="json", exclude={"cases"})
    found = matrix.cache.json("speed", [names, settings, cpu(), versions()], measure)
    return SpeedResult.model_validate(found)


def memory_of_all(matrix: Matrix, progress: Progress) -> dict[str, PeakMemory]:
    """Peak memory of each row in a fresh process: load and draw one picture."""
    if not matrix.suite.memory:
        return {}
    threads = matrix.suite.speed.threads if matrix.suite.speed else 1
    paths = {
        case.name: matrix.cache.path("memory", [matrix.drawing_key(case), threads], ".json")
        for case in matrix.timed
    }
    missing = [case for case in matrix.timed if not paths[case.name].is_file()]
    if missing:
        with progress.track("peak memory in fresh processes", len(missing)) as advance:
            for start in range(0, len(missing), _AT_ONCE):
                pair = missing[start : start + _AT_ONCE]
                started = [
                    start_peak_memory(
                        _MEMORY_ENTRY,
                        _one_step(matrix, case, threads),
                        thread_environment(threads),
                    )
                    for case in pair
                ]
                try:
                    for case, process in zip(pair, started, strict=True):
                        write_json(paths[case.name], finish_peak_memory(process).to_dict())
                        advance(1)
                finally:
                    for process in started:
                        process.kill()
    found = {name: read_json(path) for name, path in paths.items()}
    return {
        name: PeakMemory(values["baseline_bytes"], values["peak_bytes"])
        for name, values in found.items()
    }


def _one_step(matrix: Matrix, case: Case, threads: int) -> dict[str, Any]:
    """One denoising step of one picture: the second needs no more than the first."""
    assert case.generation is not None
    short = replace(case, generation=replace(case.generation, steps=1))
    return matrix.order(short, range(1), threads).model_dump(mode="json")
