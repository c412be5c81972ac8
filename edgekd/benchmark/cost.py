"""Time and memory of every row, measured once per content and machine."""

from __future__ import annotations

import functools
from typing import Any

from edgekd.benchmark.cases import TORCH, Case
from edgekd.benchmark.draw import preload
from edgekd.benchmark.matrix import Matrix
from edgekd.benchmark.speed import SpeedOrder, SpeedResult, measure_speed
from edgekd.benchmark.workers import draw_batch
from edgekd.measure.environment import cpu, versions
from edgekd.measure.memory import PeakMemory, measured
from edgekd.processes.child import Child
from edgekd.processes.pool import Pool
from edgekd.progress import Progress

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
    speed, caption = matrix.suite.speed, matrix.prompts.captions[0]
    assert speed is not None
    order = SpeedOrder(cases, caption, matrix.data.resolution, speed)

    def measure() -> Any:
        progress.info(f"timing {len(cases)} rows in turns on {speed.threads} thread(s)")
        with Child("time rows", speed.threads) as child:
            return child.call(measure_speed, order).model_dump()

    names = [[case.name, matrix.keys[case.name]] for case in cases]
    settings = [caption, matrix.data.resolution, speed.model_dump()]
    found = matrix.cache.json("speed", [names, settings, cpu(), versions()], measure)
    return SpeedResult.model_validate(found)


def memory_of_all(matrix: Matrix, progress: Progress) -> dict[str, PeakMemory]:
    """Peak memory of each row in a fresh process: load and draw one picture.

    One denoising step is drawn: the second needs no more than the first.
    """
    if not matrix.suite.memory:
        return {}
    threads = matrix.suite.speed.threads if matrix.suite.speed else 1
    keys = {case.name: [matrix.drawing_key(case), threads] for case in matrix.timed}
    kept = {name: matrix.cache.known("memory", key) for name, key in keys.items()}
    batches = [
        matrix.batch(case, range(1), threads).drawn_with(steps=1)
        for case in matrix.timed
        if kept[case.name] is None
    ]
    if batches:
        work = functools.partial(measured, draw_batch, preload=preload)
        with (
            progress.track("peak memory in fresh processes", len(batches)) as advance,
            Pool("measure peak memory", _AT_ONCE, threads, fresh=True) as pool,
        ):
            for batch, found in pool.each(work, batches):
                matrix.cache.keep("memory", keys[batch.case.name], found.memory.to_dict())
                advance(1)
    # Rows of one content share their figure.
    kept = {name: matrix.cache.known("memory", key) for name, key in keys.items()}
    return {
        name: PeakMemory(values["baseline_bytes"], values["peak_bytes"])
        for name, values in kept.items()
    }
