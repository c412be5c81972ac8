import pytest

from edgekd.benchmark import start
from edgekd.benchmark.start import cold_start, cold_starts_of_all, picture_order, summary
from edgekd.errors import InputError
from edgekd.measure.first_picture import draw_first
from edgekd.measure.picture import Moments
from edgekd.progress import Silent

MS = 10**6


def test_medians_are_of_each_span_and_of_the_whole():
    found = summary([(100, 10, 5), (300, 20, 1), (200, 90, 3)])
    assert (found.process_ms, found.load_ms, found.first_picture_ms) == (200, 20, 3)
    assert found.samples_ms == [115, 321, 293]
    assert found.total_ms == 293


def test_spans_begin_when_the_process_is_started(make_matrix, monkeypatch, in_process):
    """Not when it answers for the first time."""
    matrix = make_matrix("a")
    case = matrix.cases[0]
    monkeypatch.setattr(start, "Child", in_process)
    monkeypatch.setattr(start.time, "monotonic_ns", lambda: 50 * MS)
    monkeypatch.setattr(start, "draw_first", lambda order: Moments(150 * MS, 190 * MS, 197 * MS))
    assert cold_start(case, picture_order(matrix, case)) == (100, 40, 7)


def test_a_row_draws_its_whole_first_picture(make_matrix):
    matrix = make_matrix("a")
    order = picture_order(matrix, matrix.cases[0])
    assert (order.captions, order.steps, order.guidance_scale, order.side) == (("red",), 6, 4.0, 64)
    batch = matrix.batch(matrix.cases[0], range(1), 1)
    assert order.seeds == tuple(batch.seeds)


def test_rows_take_turns_and_a_failure_is_not_tried_again(make_matrix, monkeypatch):
    turns = []

    def started(case, order):
        turns.append(case.name)
        if case.name == "b":
            raise InputError("the folder must exist", "none")
        return (len(turns), 0.0, 0.0)

    monkeypatch.setattr(start, "cold_start", started)
    matrix = make_matrix("abc", speed={"cold_starts": 3})
    found = cold_starts_of_all(matrix, Silent())
    assert "".join(turns) == "abcacac"
    assert list(matrix.failures.reasons) == ["b"]
    assert found["a"].samples_ms == [1, 4, 6]
    assert set(found) == {"a", "c"}
    turns.clear()
    assert cold_starts_of_all(make_matrix("ac", speed={"cold_starts": 3}), Silent()) == found
    assert turns == []


@pytest.mark.parametrize("speed", [None, {"cold_starts": 0}])
def test_what_is_not_asked_for_is_not_measured(make_matrix, speed):
    assert cold_starts_of_all(make_matrix("a", speed=speed), Silent()) == {}


def test_an_exports_moments_are_in_order(make_matrix, monkeypatch):
    """Libraries, models, picture: the pipeline is asked for them one after the other."""
    from edgekd.measure import exported

    done = []

    class Pipeline:
        @classmethod
        def open(cls, path, threads, sampler):
            done.append("open")
            return cls()

        def load(self):
            done.append("load")

        def generate(self, prompts, **asked):
            done.append(prompts)
            assert asked["steps"] == 6

    monkeypatch.setattr(exported, "Pipeline", Pipeline)
    matrix = make_matrix("a")
    found = draw_first(picture_order(matrix, matrix.cases[0]))
    assert done == ["open", "load", ("red",)]
    assert found.imported <= found.loaded <= found.drawn
