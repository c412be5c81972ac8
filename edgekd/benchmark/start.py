"""Cold start of every row: from the start of a fresh process to its first picture.

Rows take turns, `speed.cold_starts` times each. The files were read before: they come from the
system's page cache, not from the disk.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from edgekd.benchmark.cases import TORCH, Case
from edgekd.benchmark.cost import caught, unmeasured
from edgekd.benchmark.first_picture import draw_torch
from edgekd.benchmark.matrix import Matrix
from edgekd.measure.environment import cpu
from edgekd.measure.first_picture import draw_first
from edgekd.measure.picture import PictureOrder, Spans
from edgekd.processes.child import Child
from edgekd.progress import Progress
from edgekd.report.costs_schema import ColdStart


def cold_starts_of_all(matrix: Matrix, progress: Progress) -> dict[str, ColdStart]:
    """Cold start by row."""
    speed = matrix.suite.speed
    if speed is None or speed.cold_starts == 0:
        return {}
    keys = {
        case.name: [matrix.drawing_key(case), speed.threads, speed.cold_starts, cpu()]
        for case in matrix.timed
    }
    missing = unmeasured(matrix, "start", keys)
    spans: dict[str, list[Spans]] = {cases[0].name: [] for cases in missing}
    if missing:
        total = len(missing) * speed.cold_starts
        with progress.track("cold starts of fresh processes", total) as advance:
            for _ in range(speed.cold_starts):
                for cases in missing:
                    case = cases[0]
                    if case.name not in matrix.failures.reasons:
                        with caught(matrix, cases):
                            spans[case.name].append(cold_start(case, picture_order(matrix, case)))
                    advance(1)
    for name, found in spans.items():
        if name not in matrix.failures.reasons:
            matrix.cache.keep("start", keys[name], summary(found).model_dump())
    return {
        case.name: ColdStart.model_validate(matrix.cache.known("start", keys[case.name]))
        for case in matrix.timed
    }


def picture_order(matrix: Matrix, case: Case) -> PictureOrder:
    """The picture of the first prompt, as the row draws it."""
    speed = matrix.suite.speed
    assert speed is not None
    return matrix.batch(case, range(1), speed.threads).order


def cold_start(case: Case, order: PictureOrder) -> Spans:
    """Start a process and let it draw.

    Raises:
        EdgekdError: it cannot, or it ended.
    """
    draw = draw_torch if case.runtime == TORCH else draw_first
    started = time.monotonic_ns()
    with Child(f"draw the first picture of {case.name}", order.threads) as child:
        found = child.call(draw, order)
    return found.spans(started)


def summary(samples: Sequence[Spans]) -> ColdStart:
    """Medians of all spans and of their sums."""
    process, load, picture = np.median(np.array(samples), axis=0)
    totals = [sum(spans) for spans in samples]
    return ColdStart(
        process_ms=float(process),
        load_ms=float(load),
        first_picture_ms=float(picture),
        total_ms=float(np.median(totals)),
        samples_ms=totals,
    )
