from pathlib import Path
from typing import Any

import pytest

from edgekd.benchmark.cases import Case
from edgekd.benchmark.orders import DrawOrder
from edgekd.benchmark.tasks import Worker
from edgekd.benchmark.worker import answer
from edgekd.benchmark.workers import WorkerPool, pool_size, thread_environment
from edgekd.errors import GateError, InputError
from edgekd.recipe import RowGeneration


class FakeProcess:
    """Stands for a worker process: answers or fails at once."""

    def __init__(self, failures: dict[int, Exception]) -> None:
        self.asked: list[int] = []
        self._failures = failures

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request["n"])
        if request["n"] in self._failures:
            raise self._failures[request["n"]]
        return {}

    def close(self) -> None:
        self.asked.append(-1)


def pool_of(processes: list[FakeProcess]) -> WorkerPool:
    pool = WorkerPool(len(processes), threads=1)
    pool._workers = list(processes)  # type: ignore[arg-type]
    return pool


def test_every_request_is_answered_once_whoever_takes_it() -> None:
    processes = [FakeProcess({}), FakeProcess({})]
    done: list[int] = []
    with pool_of(processes) as pool:
        pool.ask_all([{"n": n} for n in range(20)], lambda request: done.append(request["n"]))
    assert sorted(done) == list(range(20))
    assert sorted(processes[0].asked + processes[1].asked) == [-1, -1, *range(20)]


def test_the_first_failure_stops_the_rest_and_is_raised() -> None:
    process = FakeProcess({3: GateError("pictures must be finite", "NaN")})
    done: list[int] = []
    with (
        pytest.raises(GateError, match="NaN"),
        pool_of([process]) as pool,
    ):
        pool.ask_all([{"n": n} for n in range(20)], lambda request: done.append(request["n"]))
    assert done == [0, 1, 2]
    assert process.asked == [0, 1, 2, 3, -1]


def test_a_users_error_in_a_worker_is_the_same_error_here(tmp_path: Path) -> None:
    """The whole path through a real process; then the process is killed under our feet."""
    generation = RowGeneration("DDIMScheduler", 1, 1.0)
    case = Case("s", "student", "onnx", "fp32", tmp_path / "none", generation=generation)
    order = DrawOrder(
        case=case, threads=1, captions=["a"], indices=[0], resolution=8, seed=0, out=tmp_path / "o"
    )
    request = order.model_dump(mode="json")
    with WorkerPool(1, threads=1) as pool:
        with pytest.raises(InputError, match=r"must be a folder, but got .*none"):
            pool.ask_one(request)
        with pytest.raises(RuntimeError, match="KeyError: 'fly'"):
            pool.ask_one({"operation": "fly"})
        pool._workers[0]._process.kill()
        with pytest.raises(RuntimeError, match="ended with code -9"):
            pool.ask_one(request)


def test_a_defect_in_a_worker_keeps_its_traceback() -> None:
    reply = answer(Worker(), {"operation": "draw"})
    assert reply["error"] == "crash"
    assert "ValidationError" in reply["arguments"][0]


def test_pool_is_as_large_as_work_and_memory_allow() -> None:
    assert pool_size(3, batches=2, largest_bytes=1)[0] == 2
    assert pool_size(1, batches=9, largest_bytes=1)[0] == 1
    assert pool_size(0, batches=9, largest_bytes=2**50)[0] == 1
    count, threads = pool_size(0, batches=10**6, largest_bytes=1)
    assert count >= 1
    assert threads >= 1


def test_thread_pools_are_pinned_before_a_process_starts() -> None:
    assert thread_environment(2)["OMP_NUM_THREADS"] == "2"
