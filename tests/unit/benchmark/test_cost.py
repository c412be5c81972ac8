import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from edgekd.benchmark import cost
from edgekd.benchmark.cost import by_process, memory_of_all, speed_of_all, together_or_apart
from edgekd.benchmark.speed import SpeedResult
from edgekd.errors import GateError
from edgekd.measure.clock import Latency
from edgekd.measure.memory import PeakMemory
from edgekd.processes.child import ChildError
from edgekd.progress import Silent
from edgekd.report.costs_schema import Timing

TIMING = Timing.model_validate(Latency((1.0,), (2.0,)).to_dict())


def test_torch_has_a_process_of_its_own(make_matrix):
    a, b, c = make_matrix("abc").cases
    b = replace(b, runtime="torch")
    assert by_process([a, b, c]) == [[a, c], [b]]
    assert by_process([b]) == [[b]]


def test_a_process_that_dies_is_found_row_by_row(make_matrix):
    cases, failed, asked = make_matrix("abc").cases, {}, []

    def measure(some):
        asked.append("".join(case.name for case in some))
        if "b" in asked[-1]:
            raise ChildError("the process must live to the end", "SIGSEGV")
        return asked[-1]

    found = together_or_apart(
        cases, measure, lambda case, error: failed.update({case.name: str(error)}), Silent()
    )
    assert asked == ["abc", "a", "b", "c"]
    assert found == ["a", "c"]
    assert list(failed) == ["b"]
    assert "SIGSEGV" in failed["b"]


@pytest.fixture
def speed(monkeypatch, in_process):
    """Answers of `measure_speed`, by a function of the order."""

    def answer_with(function):
        monkeypatch.setattr(cost, "Child", in_process)
        monkeypatch.setattr(cost, "measure_speed", function)
        return in_process.started

    return answer_with


def test_rows_without_times_are_failures_and_tried_again(make_matrix, speed):
    """A failure may be of other work, which took the memory."""
    matrix = make_matrix("ab")

    def measure(order):
        names = [case.name for case in order.cases]
        return SpeedResult(
            load_average=1.0,
            timings={name: {"image": TIMING} for name in names if name != "b"},
            failures={"b": "no picture"} if "b" in names else {},
        )

    started = speed(measure)
    found = speed_of_all(matrix, Silent())
    assert list(found.timings) == ["a"]
    assert matrix.failures.reasons == {"b": "no picture"}
    assert [case.name for case in matrix.timed] == ["a"]
    again = make_matrix("ab")
    assert speed_of_all(again, Silent()) == found
    assert again.failures.reasons == matrix.failures.reasons
    assert started == [1, 1]
    # What has times is not timed twice.
    for _ in range(2):
        assert list(speed_of_all(make_matrix("ac"), Silent()).timings) == ["a", "c"]
    assert started == [1, 1, 1]


def test_memory_of_the_others_is_measured_when_one_row_fails(make_matrix, monkeypatch):
    weighed = []

    def weigh(batch):
        weighed.append((batch.case.name, batch.generation.steps))
        if batch.case.name == "b":
            raise GateError("the work must fit", "a process that the system killed")
        return PeakMemory(1, 9, 5)

    class Pool(ThreadPoolExecutor):
        def __init__(self, work, count, threads, fresh):
            assert fresh
            super().__init__(count)

    monkeypatch.setattr(cost, "Pool", Pool)
    monkeypatch.setattr(cost, "weighing", lambda batch: functools.partial(weigh, batch))
    matrix = make_matrix("abcde")
    matrix.keys.update(d=matrix.keys["a"], e=matrix.keys["b"])  # of one content
    found = memory_of_all(matrix, Silent())
    assert found == dict.fromkeys("acd", PeakMemory(1, 9, 5))
    assert sorted(matrix.failures.reasons) == ["b", "e"]
    assert sorted(weighed) == [("a", 1), ("b", 1), ("c", 1)]
    weighed.clear()
    assert memory_of_all(make_matrix("ac"), Silent()) == dict.fromkeys("ac", PeakMemory(1, 9, 5))
    assert weighed == []
