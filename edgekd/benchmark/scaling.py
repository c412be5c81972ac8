"""Latency and memory of every row against batch size, picture size, steps and threads.

A row's points are opened in one process for each number of threads, all processes at once, and
every round times each point of each row once, one after the other: what else the machine does falls
on all of them alike. Memory, of exported rows alone, is that of a fresh process for each point: a
process with torch takes seconds to start.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgekd.benchmark.cases import TORCH, Case
from edgekd.benchmark.cost import by_process, together_or_apart, weighing
from edgekd.benchmark.draw import open_drawer
from edgekd.benchmark.drawer import Drawer, DrawingBatch
from edgekd.benchmark.matrix import Matrix
from edgekd.benchmark.suite import ScalingSection
from edgekd.errors import EdgekdError
from edgekd.measure.environment import cores, cpu, versions
from edgekd.measure.power_law import fit_power_law
from edgekd.processes.child import Child
from edgekd.processes.pool import Pool
from edgekd.progress import Progress, counted
from edgekd.report.costs_schema import Scaling, ScalingAxis

_AT_ONCE = 2
_TORCH_MULTIPLE = 8  # of picture sides that diffusers draws
# Axes along which a process needs more memory. Steps reuse it, and threads share it.
_OF_MEMORY = ("batch", "side")

Times = dict["ScalingPoint", list[float]]


@dataclass(frozen=True)
class ScalingPoint:
    """One row at one place of one axis."""

    row: str
    axis: ScalingAxis
    value: int


@dataclass(frozen=True)
class Placed:
    """A point, and what is drawn there."""

    point: ScalingPoint
    batch: DrawingBatch


def scaling_of_all(matrix: Matrix, progress: Progress) -> list[Scaling]:
    """Every row's growth along every axis that it has at least two points on."""
    section = matrix.suite.scaling
    if section is None:
        return []
    times: Times = {}
    for group in by_process(matrix.timed):
        for found in together_or_apart(
            group,
            functools.partial(_timed, matrix, section, progress),
            lambda case, error: progress.info(f"growth of {case.name} is not measured: {error}"),
            progress,
        ):
            times |= found
    placed = {one.point: one for case in matrix.timed for one in points(matrix, section, case)}
    drawn = {point: placed[point] for point in times}
    peaks = _peaks(matrix, list(drawn.values()), progress)
    steps = {point: one.batch.generation.steps for point, one in drawn.items()}
    return fits(times, peaks, steps)


def points(matrix: Matrix, section: ScalingSection, case: Case) -> list[Placed]:
    """What is drawn for one row: along each axis the others stay as they are.

    Sides that its runtime cannot draw and threads that this machine does not have are left out.
    """
    base = matrix.batch(case, range(1), _threads(matrix))
    few = base.in_few_steps(section.draw_steps)
    own = matrix.data.resolution
    sides = sorted(set(section.side or (own // 2, own, 2 * own)))
    found: dict[ScalingAxis, dict[int, DrawingBatch]] = {
        "batch": {count: _repeated(matrix, few, count) for count in section.batch},
        "side": {side: replace(few, resolution=side) for side in sides if _drawable(case, side)},
        "steps": {steps: base.drawn_with(steps=steps) for steps in section.steps},
        "threads": {
            count: replace(few, threads=count) for count in section.threads if count <= cores()
        },
    }
    return [
        Placed(ScalingPoint(case.name, axis, value), batch)
        for axis, batches in found.items()
        for value, batch in sorted(batches.items())
    ]


def _threads(matrix: Matrix) -> int:
    return matrix.suite.speed.threads if matrix.suite.speed else 1


def _repeated(matrix: Matrix, batch: DrawingBatch, count: int) -> DrawingBatch:
    """So many pictures, of different prompts as far as there are any."""
    indices = [index % len(matrix.prompts) for index in range(count)]
    captions = [matrix.prompts.captions[index] for index in indices]
    return replace(batch, captions=captions, indices=indices)


def _drawable(case: Case, side: int) -> bool:
    return side > 0 and (case.runtime != TORCH or side % _TORCH_MULTIPLE == 0)


def _timed(
    matrix: Matrix, section: ScalingSection, progress: Progress, cases: Sequence[Case]
) -> Times:
    placed = [one for case in cases for one in points(matrix, section, case)]
    names = [[case.name, matrix.keys[case.name]] for case in cases]
    batches = [[one.batch.threads, one.batch.resolution, one.batch.captions] for one in placed]
    key = [names, section.model_dump(), batches, cpu(), versions()]

    def measure() -> Any:
        progress.info(
            f"timing {counted(len(placed), 'point')} of {counted(len(cases), 'row')} in turns"
        )
        found = time_points(placed, section.runs, progress)
        return [[one.row, one.axis, one.value, samples] for one, samples in found.items()]

    kept = matrix.cache.json("scaling", key, measure)
    return {ScalingPoint(row, axis, value): samples for row, axis, value, samples in kept}


def time_points(placed: Sequence[Placed], runs: int, progress: Progress) -> Times:
    """Milliseconds of each point that can be drawn, one sample of each in a round.

    Raises:
        EdgekdError: a process ended.
    """
    by_threads: dict[int, list[Placed]] = defaultdict(list)
    for one in placed:
        by_threads[one.batch.threads].append(one)
    times: Times = defaultdict(list)
    with contextlib.ExitStack() as stack:
        children = {
            threads: stack.enter_context(Child("time points", threads)) for threads in by_threads
        }
        for threads, some in by_threads.items():
            for point, reason in children[threads].call(open_points, some).items():
                progress.info(f"{point.row}, {point.axis} {point.value} is left out: {reason}")
        for _ in range(runs):
            for child in children.values():
                for point, milliseconds in child.call(time_opened).items():
                    times[point].append(milliseconds)
    return dict(times)


# Of this process: what `open_points` found that it can draw.
_opened: dict[ScalingPoint, tuple[Drawer, DrawingBatch]] = {}


def open_points(placed: Sequence[Placed]) -> dict[ScalingPoint, str]:
    """Open the rows of points, and draw each point once; why some cannot be drawn."""
    failures: dict[ScalingPoint, str] = {}
    drawers: dict[str, Drawer] = {}
    for one in placed:
        row = one.point.row
        try:
            if row not in drawers:
                drawers[row] = open_drawer(one.batch.case, one.batch.threads)
            drawers[row].draw(one.batch)
        except EdgekdError as error:
            failures[one.point] = str(error)
        else:
            _opened[one.point] = (drawers[row], one.batch)
    return failures


def time_opened() -> dict[ScalingPoint, float]:
    """Milliseconds of each opened point, drawn once."""
    found = {}
    for point, (drawer, batch) in _opened.items():
        started = time.perf_counter()
        drawer.draw(batch)
        found[point] = 1000 * (time.perf_counter() - started)
    return found


def _peaks(matrix: Matrix, placed: Sequence[Placed], progress: Progress) -> dict[ScalingPoint, int]:
    """Peak memory of exported rows' points; one that fails has none."""
    wanted = {
        one.point: one.batch.in_few_steps()
        for one in placed
        if one.point.axis in _OF_MEMORY and one.batch.case.runtime != TORCH
    }
    if not matrix.suite.memory:
        return {}

    contents = {case.name: matrix.drawing_key(case) for case in matrix.timed}

    def key(batch: DrawingBatch) -> list[Any]:
        return [contents[batch.case.name], batch.threads, batch.resolution, batch.captions]

    missing = {
        point: batch
        for point, batch in wanted.items()
        if matrix.cache.known("memory-at", key(batch)) is None
    }
    if missing:
        with (
            progress.track("memory of points in fresh processes", len(missing)) as advance,
            Pool("measure peak memory", _AT_ONCE, _threads(matrix), fresh=True) as pool,
        ):
            futures = {pool.submit(weighing(batch)): batch for batch in missing.values()}
            for future in as_completed(futures):
                with _told(progress, futures[future].case.name):
                    peak = future.result().peak_bytes
                    matrix.cache.keep("memory-at", key(futures[future]), peak)
                advance(1)
    kept = {point: matrix.cache.known("memory-at", key(batch)) for point, batch in wanted.items()}
    return {point: peak for point, peak in kept.items() if peak is not None}


@contextlib.contextmanager
def _told(progress: Progress, row: str) -> Iterator[None]:
    try:
        yield
    except EdgekdError as error:
        progress.info(f"memory of a point of {row} is not measured: {error}")


def fits(
    times: Times, peaks: dict[ScalingPoint, int], steps: dict[ScalingPoint, int]
) -> list[Scaling]:
    """Medians and the power law of each row and axis with at least two points.

    Args:
        times, peaks, steps: samples, bytes where they were measured, denoising steps.
    """
    axes: dict[tuple[str, ScalingAxis], list[ScalingPoint]] = defaultdict(list)
    for point in times:
        axes[point.row, point.axis].append(point)
    found = []
    for (row, axis), some in axes.items():
        if len(some) < 2:
            continue
        medians = [float(np.median(times[point])) for point in some]
        law = fit_power_law([point.value for point in some], medians)
        found.append(
            Scaling(
                row=row,
                axis=axis,
                values=[point.value for point in some],
                latency_ms=medians,
                peak_bytes=[peaks.get(point) for point in some],
                draw_steps=None if axis == "steps" else steps[some[0]],
                exponent=law.exponent,
                r_squared=law.r_squared,
            )
        )
    return found
