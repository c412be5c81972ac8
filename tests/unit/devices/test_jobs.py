"""Jobs in this process, with work that its tests decide."""

import asyncio
import threading

import pytest

from edgekd.devices.jobs import Jobs
from edgekd.devices.orders import CheckJob
from edgekd.devices.schema import JobFailure
from edgekd.devices.settings import make_limits
from edgekd.serve.problems import Problem

FAILED = JobFailure(code="input", message="no")


class Work:
    """Runs until it is let go; notes what ran."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.ran: list[str] = []

    def __call__(self, number, job, stop):
        self.ran.append(number)
        while not self.go.wait(0.005):
            if stop.is_set():
                return None
        return FAILED


def limits(**changes):
    values = {"file_bytes": 1, "store_bytes": 1, "job_s": 1.0, "lease_s": 60.0}
    return make_limits(**{**values, "memory_bytes": 1, "queue": 2, "threads": 1, **changes})


def number(index: int) -> str:
    return f"{index:032x}"


class Tried:
    """Jobs in a running loop, and what was ended."""

    def __init__(self, **changes) -> None:
        self.work = Work()
        self.jobs = Jobs(self.work, limits(**changes))
        self.ended: list[str] = []
        self.jobs.open()

    def submit(self, index: int):
        name = number(index)
        return self.jobs.submit(name, CheckJob(), "content", lambda: self.ended.append(name))

    async def until(self, index: int, state: str) -> None:
        for _ in range(400):
            found = await self.jobs.status(number(index), 0.05)
            if found.state == state:
                return
        raise AssertionError(found)


def run(test, **changes) -> Tried:
    async def tried() -> Tried:
        made = Tried(**changes)
        try:
            await test(made)
        finally:
            await made.jobs.close()
        return made

    return asyncio.run(tried())


def test_one_job_runs_and_the_others_know_their_places():
    async def test(tried):
        tried.submit(0)
        await tried.until(0, "running")
        assert [tried.submit(index).position for index in (1, 2)] == [1, 2]
        assert tried.work.ran == [number(0)]
        with pytest.raises(Problem) as caught:
            tried.jobs.check_room()
        assert (caught.value.status, caught.value.code) == (429, "queue_full")
        assert caught.value.headers() == {"Retry-After": "10"}
        tried.work.go.set()
        for index in range(3):
            await tried.until(index, "failed")
        assert (await tried.jobs.status(number(0))).failure == FAILED

    found = run(test)
    assert found.work.ran == found.ended == [number(index) for index in range(3)]


def test_a_job_is_cancelled_where_it_is():
    async def test(tried):
        for index in range(2):
            tried.submit(index)
        await tried.until(0, "running")
        assert (await tried.jobs.cancel(number(1))).state == "cancelled"
        assert (await tried.jobs.cancel(number(0))).state == "cancelled"
        assert (await tried.jobs.cancel(number(0))).state == "cancelled"  # once more

    found = run(test)
    assert found.work.ran == [number(0)]
    assert sorted(found.ended) == [number(0), number(1)]


def test_jobs_of_a_host_that_has_vanished_end():
    async def test(tried):
        for index in range(2):
            tried.submit(index)
        for _ in range(400):
            await asyncio.sleep(0.02)
            if len(tried.ended) == 2:
                return
        raise AssertionError(tried.ended)

    run(test, lease_s=1.0)


def test_the_same_job_is_taken_once():
    async def test(tried):
        tried.submit(0)
        known = tried.jobs.known(number(0), "content")
        assert known is not None
        assert known.id == number(0)
        with pytest.raises(Problem) as caught:
            tried.jobs.known(number(0), "other")
        assert (caught.value.status, caught.value.code) == (409, "job_differs")
        assert tried.jobs.known(number(1), "content") is None

    run(test)


def test_nobody_waits_for_a_job_that_is_not_there():
    async def test(tried):
        for ask in (tried.jobs.status, tried.jobs.cancel):
            with pytest.raises(Problem) as caught:
                await ask(number(9))
            assert (caught.value.status, caught.value.code) == (404, "not_found")

    run(test)


def test_old_results_make_room_for_new_ones():
    async def test(tried):
        tried.work.go.set()
        for index in range(80):
            tried.submit(index)
            await tried.until(index, "failed")
        with pytest.raises(Problem):
            await tried.jobs.status(number(0))
        assert (await tried.jobs.status(number(79))).failure == FAILED

    run(test, queue=100)
