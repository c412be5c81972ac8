"""Time and memory of every row, measured once per content and machine."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from typing import Any, TypeVar

from edgekd.benchmark.cases import TORCH, Case
from edgekd.benchmark.drawer import DrawingBatch
from edgekd.benchmark.matrix import Matrix
from edgekd.benchmark.speed import SpeedOrder, SpeedResult, measure_speed
from edgekd.benchmark.workers import weigh_batch
from edgekd.devices.results import ExportResult
from edgekd.errors import EdgekdError
from edgekd.files import hash_value
from edgekd.measure.environment import cpu, versions
from edgekd.measure.exported import weigh
from edgekd.measure.memory import PeakMemory
from edgekd.processes.child import Child
from edgekd.processes.pool import Pool
from edgekd.progress import Progress, counted

# Memory does not depend on who runs beside: two at a time hide each other's imports.
_AT_ONCE = 2

Result = TypeVar("Result")


def weighing(batch: DrawingBatch) -> Callable[[], PeakMemory]:
    """What measures the peak memory of drawing a batch in a fresh process."""
    if batch.case.runtime == TORCH:
        return functools.partial(weigh_batch, batch)
    return functools.partial(weigh, batch.order)


def speed_of_all(matrix: Matrix, progress: Progress) -> SpeedResult | None:
    """Latencies of all rows: exported ones in turns in a process without torch, those of torch in
    turns in another."""
    speed = matrix.suite.speed
    if speed is None:
        return None
    found = [
        result
        for group in by_process(matrix.timed)
        for result in together_or_apart(
            group,
            functools.partial(_timed, matrix, progress),
            lambda case, error: matrix.failures.record(case.name, str(error)),
            progress,
        )
    ]
    for name, reason in ((n, r) for one in found for n, r in one.failures.items()):
        matrix.failures.record(name, reason)
    load_average, throttled = machine_state(found)
    return SpeedResult(
        load_average=load_average,
        timings={name: parts for one in found for name, parts in one.timings.items()},
        energy={name: energy for one in found for name, energy in one.energy.items()},
        throttled=throttled,
    )


def machine_state(
    found: Sequence[SpeedResult] | Sequence[ExportResult],
) -> tuple[float | None, bool | None]:
    """Of measurements one after the other: the least load, and whether any was throttled; None
    where none knows it."""
    loads = [one.load_average for one in found if one.load_average is not None]
    throttled = [one.throttled for one in found if one.throttled is not None]
    return min(loads, default=None), any(throttled) if throttled else None


def by_process(cases: Sequence[Case]) -> list[list[Case]]:
    """Rows that are measured in one process: exported ones have no torch beside them."""
    groups: dict[bool, list[Case]] = {False: [], True: []}
    for case in cases:
        groups[case.runtime == TORCH].append(case)
    return [group for group in groups.values() if group]


def together_or_apart(
    cases: Sequence[Case],
    measure: Callable[[Sequence[Case]], Result],
    failed: Callable[[Case, EdgekdError], None],
    progress: Progress,
) -> list[Result]:
    """Measure rows in one process; where that ends in an error, each in a process of its own.

    Args:
        failed: told of a row that fails by itself.
    """
    try:
        return [measure(cases)]
    except EdgekdError as error:
        if len(cases) == 1:
            failed(cases[0], error)
            return []
        progress.info(f"{len(cases)} rows are measured one by one, not in turns: {error}")
    return [one for case in cases for one in together_or_apart([case], measure, failed, progress)]


def _timed(matrix: Matrix, progress: Progress, cases: Sequence[Case]) -> SpeedResult:
    speed, caption = matrix.suite.speed, matrix.prompts.captions[0]
    assert speed is not None
    names = [[case.name, matrix.keys[case.name]] for case in cases]
    settings = [caption, matrix.data.resolution, speed.model_dump()]
    order = SpeedOrder(cases, caption, matrix.data.resolution, speed)

    key = [names, settings, cpu(), versions()]
    known = matrix.cache.known("speed", key)
    if known is not None:
        return SpeedResult.model_validate(known)
    progress.info(f"timing {counted(len(cases), 'row')} on {counted(speed.threads, 'thread')}")
    with Child("time rows", speed.threads) as child:
        found: SpeedResult = child.call(measure_speed, order)
    # Failures are not kept: they may be of other work, which took the memory.
    if not found.failures:
        matrix.cache.keep("speed", key, found.model_dump())
    return found


def unmeasured(matrix: Matrix, kind: str, keys: dict[str, list[Any]]) -> list[list[Case]]:
    """Rows whose entry is not kept yet; those of one content, which share it, together."""
    missing: dict[str, list[Case]] = {}
    for case in matrix.timed:
        if matrix.cache.known(kind, keys[case.name]) is None:
            missing.setdefault(hash_value(keys[case.name]), []).append(case)
    return list(missing.values())


@contextlib.contextmanager
def caught(matrix: Matrix, cases: Sequence[Case]) -> Iterator[None]:
    """What one of the rows of one content raises is the failure of all of them."""
    try:
        yield
    except EdgekdError as error:
        for case in cases:
            matrix.failures.record(case.name, str(error))


def memory_of_all(matrix: Matrix, progress: Progress) -> dict[str, PeakMemory]:
    """Peak memory of each row in a fresh process: load and draw one picture.

    One denoising step is drawn: the second needs no more than the first.
    """
    if not matrix.suite.memory:
        return {}
    threads = matrix.suite.speed.threads if matrix.suite.speed else 1
    keys = {case.name: [matrix.drawing_key(case), threads] for case in matrix.timed}
    missing = unmeasured(matrix, "memory", keys)
    if missing:
        with (
            progress.track("peak memory in fresh processes", len(missing)) as advance,
            Pool("measure peak memory", _AT_ONCE, threads, fresh=True) as pool,
        ):
            futures = {
                pool.submit(
                    weighing(matrix.batch(cases[0], range(1), threads).in_few_steps())
                ): cases
                for cases in missing
            }
            for future in as_completed(futures):
                cases = futures[future]
                with caught(matrix, cases):
                    found = future.result().to_dict()
                    matrix.cache.keep("memory", keys[cases[0].name], found)
                advance(1)
    kept = {case.name: matrix.cache.known("memory", keys[case.name]) for case in matrix.timed}
    return {name: PeakMemory.from_dict(values) for name, values in kept.items()}
