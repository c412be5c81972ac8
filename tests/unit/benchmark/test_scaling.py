import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from edgekd.benchmark import scaling
from edgekd.benchmark.scaling import Placed, ScalingPoint, fits, points, scaling_of_all, time_points
from edgekd.benchmark.suite import ScalingSection
from edgekd.errors import InputError
from edgekd.measure.memory import PeakMemory
from edgekd.progress import Silent

SECTION = ScalingSection(batch=[1, 4], steps=[1, 8], threads=[1, 2], runs=2, draw_steps=4)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(scaling, "cores", lambda: 2)
    monkeypatch.setattr(scaling, "_opened", {})


def placed_of(matrix, case, section=SECTION) -> dict[str, list[Placed]]:
    found: dict[str, list[Placed]] = {}
    for one in points(matrix, section, case):
        found.setdefault(one.point.axis, []).append(one)
    return found


def values(placed: list[Placed]) -> list[int]:
    return [one.point.value for one in placed]


def test_along_each_axis_only_its_own_value_changes(make_matrix):
    matrix = make_matrix("a")
    found = placed_of(matrix, matrix.cases[0])
    batches = {axis: [one.batch for one in some] for axis, some in found.items()}
    assert [len(one.captions) for one in batches["batch"]] == [1, 4]
    assert batches["batch"][1].captions == ["red", "green", "blue", "red"]
    assert [one.resolution for one in batches["side"]] == [32, 64, 128]
    assert [one.generation.steps for one in batches["steps"]] == [1, 8]
    assert [one.threads for one in batches["threads"]] == [1, 2]
    for axis in ("batch", "side", "threads"):
        assert {one.generation.steps for one in batches[axis]} == {4}
    assert {one.threads for axis in ("batch", "side", "steps") for one in batches[axis]} == {1}


def test_a_row_of_fewer_steps_draws_its_own(make_matrix):
    matrix = make_matrix("a")
    section = SECTION.model_copy(update={"draw_steps": 20})
    found = placed_of(matrix, matrix.cases[0], section)
    assert {one.batch.generation.steps for one in found["batch"]} == {6}


def test_what_this_machine_or_diffusers_does_not_do_is_left_out(make_matrix):
    matrix = make_matrix("a")
    case = replace(matrix.cases[0], runtime="torch")
    section = ScalingSection(side=[20, 64, 128], threads=[1, 2, 64])
    found = placed_of(matrix, case, section)
    assert values(found["side"]) == [64, 128]
    assert values(found["threads"]) == [1, 2]
    assert values(placed_of(matrix, matrix.cases[0], section)["side"]) == [20, 64, 128]


class Drawer:
    """An export of one size: takes as long as there are pictures and steps."""

    clock = 0.0

    def __init__(self, case, threads):
        self.threads = threads

    def draw(self, batch):
        assert batch.threads == self.threads
        if batch.resolution != 64:
            raise InputError("pictures of this export must be 64 by 64 pixels", "others")
        pictures = len(batch.captions) * batch.generation.steps
        Drawer.clock += 0.001 * pictures / self.threads


@pytest.fixture
def drawn(monkeypatch, in_process):
    monkeypatch.setattr(scaling, "Child", in_process)
    monkeypatch.setattr(scaling, "open_drawer", Drawer)
    monkeypatch.setattr(scaling.time, "perf_counter", lambda: Drawer.clock)
    return in_process.started


def test_points_that_cannot_be_drawn_are_left_out_and_said(make_matrix, drawn):
    matrix, told = make_matrix("a"), []
    progress = Silent()
    progress.info = told.append
    placed = points(matrix, SECTION.model_copy(update={"threads": [1]}), matrix.cases[0])
    found = time_points(placed, 2, progress)
    assert {point.axis for point in found} == {"batch", "side", "steps", "threads"}
    assert found[ScalingPoint("a", "batch", 4)] == pytest.approx([16, 16])
    assert found[ScalingPoint("a", "steps", 8)] == pytest.approx([8, 8])
    assert [point.value for point in found if point.axis == "side"] == [64]
    assert len(told) == 2
    assert "a, side 32 is left out: pictures of this export" in told[0]


def test_each_number_of_threads_has_a_process(make_matrix, drawn):
    matrix = make_matrix("a")
    placed = [
        one for one in points(matrix, SECTION, matrix.cases[0]) if one.point.axis == "threads"
    ]
    time_points(placed, 1, Silent())
    assert drawn == [1, 2]


def test_rows_are_measured_once_with_memory_and_exponents(make_matrix, drawn, monkeypatch):
    section = SECTION.model_copy(update={"threads": [1]})
    weighed = []

    def weigh(batch):
        weighed.append(batch)
        return PeakMemory(1, 1000 * len(batch.captions))

    def pool(work, count, threads, fresh):
        return ThreadPoolExecutor(count)

    monkeypatch.setattr(scaling, "Pool", pool)
    monkeypatch.setattr(scaling, "weighing", lambda batch: functools.partial(weigh, batch))
    suite = {"scaling": section.model_dump()}
    found = {
        (one.row, one.axis): one for one in scaling_of_all(make_matrix("ab", **suite), Silent())
    }
    assert set(found) == {(row, axis) for row in "ab" for axis in ("batch", "steps")}
    batch, steps = found["a", "batch"], found["a", "steps"]
    assert (batch.values, batch.draw_steps, batch.peak_bytes) == ([1, 4], 4, [1000, 4000])
    assert (steps.values, steps.draw_steps, steps.peak_bytes) == ([1, 8], None, [None, None])
    assert batch.exponent == pytest.approx(1)
    assert steps.r_squared == pytest.approx(1)
    assert {one.generation.steps for one in weighed} == {1}
    weighed.clear()
    drawn.clear()
    again = scaling_of_all(make_matrix("ab", **suite), Silent())
    assert {(one.row, one.axis): one for one in again} == found
    assert (weighed, drawn) == ([], [])


def test_an_axis_of_one_point_has_no_exponent():
    times = {
        ScalingPoint("a", "side", 64): [1.0],
        ScalingPoint("a", "batch", 1): [1.0],
        ScalingPoint("a", "batch", 2): [2.0],
    }
    (found,) = fits(times, {}, dict.fromkeys(times, 4))
    assert (found.axis, found.exponent) == ("batch", 1.0)
