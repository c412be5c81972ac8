"""An agent's jobs: one runs at a time, a bounded number waits, and none outlives its host's
interest."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from edgekd.devices import problems
from edgekd.devices.orders import Job
from edgekd.devices.results import Result
from edgekd.devices.schema import ENDED, DeviceLimits, JobFailure, JobStatus, State
from edgekd.serve.logs import event
from edgekd.serve.problems import queue_full

Outcome = Result | JobFailure | None  # None: it was cancelled
# Does a job in a thread of its own; never raises.
Work = Callable[[str, Job, threading.Event], Outcome]

_KEPT, _KEPT_S = 64, 3600.0  # ended jobs, for those who ask again
_LOOK_S = 1.0
_RETRY_S = 10


@dataclass
class _Job:
    """A job that was taken.

    Attributes:
        content: its JSON, to tell whether another one has its id.
        asked: when a host asked for it last, by the monotonic clock.
        changed: set when the state changes; a new one takes its place then.
        on_end: is called once.
    """

    id: str
    job: Job
    content: str
    asked: float
    on_end: Callable[[], None]
    state: State = "queued"
    outcome: Outcome = None
    ended: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def enter(self, state: State) -> None:
        self.state = state
        self.changed.set()
        self.changed = asyncio.Event()
        if state in ENDED:
            self.ended = time.monotonic()
            self.on_end()
        event("job", job=self.id, kind=self.job.kind, state=state)


class Jobs:
    """To be used in one event loop; `open` begins, `close` ends everything at once."""

    def __init__(self, work: Work, limits: DeviceLimits) -> None:
        self._work = work
        self._limits = limits
        self._all: dict[str, _Job] = {}
        self._waiting: deque[_Job] = deque()
        self._filled = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._running: _Job | None = None

    def open(self) -> None:
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._look())]

    async def close(self) -> None:
        """Cancel everything, and wait until no process is left."""
        for job in list(self._waiting):
            self._cancel(job)
        running = self._running
        if running is not None:
            running.stop.set()
            changed = running.changed
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(changed.wait(), 10.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def known(self, number: str, content: str) -> JobStatus | None:
        """The job of this id, which a host submits again; None: there is none.

        Raises:
            Problem: another job has it.
        """
        found = self._all.get(number)
        if found is None:
            return None
        if found.content != content:
            raise problems.job_differs()
        found.asked = time.monotonic()
        return self._status(found)

    def check_room(self) -> None:
        """Whether one job more may wait.

        Raises:
            Problem: it may not.
        """
        if len(self._waiting) >= self._limits.queue:
            raise queue_full(_RETRY_S)

    def submit(self, number: str, job: Job, content: str, on_end: Callable[[], None]) -> JobStatus:
        """Take a job with a new id."""
        self._forget()
        taken = _Job(number, job, content, time.monotonic(), on_end)
        self._all[number] = taken
        self._waiting.append(taken)
        self._filled.set()
        return self._status(taken)

    async def status(self, number: str, wait_s: float = 0.0) -> JobStatus:
        """Where a job is, as soon as its state changes or the time is over.

        Raises:
            Problem: there is no such job.
        """
        job = self._find(number)
        changed = job.changed
        if wait_s > 0 and job.state not in ENDED:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(changed.wait(), wait_s)
            job.asked = time.monotonic()
        return self._status(job)

    async def cancel(self, number: str) -> JobStatus:
        """End a job; what it has measured is lost.

        Raises:
            Problem: there is no such job.
        """
        job = self._find(number)
        changed = job.changed
        self._cancel(job)
        if job.state == "running":
            await changed.wait()
        return self._status(job)

    def _cancel(self, job: _Job) -> None:
        job.stop.set()
        if job.state == "queued":
            self._waiting.remove(job)
            job.enter("cancelled")

    def _find(self, number: str) -> _Job:
        job = self._all.get(number)
        if job is None:
            raise problems.not_found("job")
        job.asked = time.monotonic()
        return job

    def _status(self, job: _Job) -> JobStatus:
        before = 0
        if job.state == "queued":
            before = self._waiting.index(job) + (self._running is not None)
        outcome = job.outcome
        is_failure = isinstance(outcome, JobFailure)
        return JobStatus(
            id=job.id,
            state=job.state,
            position=before,
            failure=outcome if isinstance(outcome, JobFailure) else None,
            result=None if is_failure else outcome,
        )

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            if not self._waiting:
                self._filled.clear()
                continue
            job = self._running = self._waiting.popleft()
            job.enter("running")
            job.outcome = await self._in_thread(job)
            self._running = None
            if job.outcome is None:
                job.enter("cancelled")
            else:
                job.enter("failed" if isinstance(job.outcome, JobFailure) else "done")

    async def _in_thread(self, job: _Job) -> Outcome:
        """In a thread of its own: Linux ends measuring processes with the thread that started
        them, and a pool's threads come and go."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Outcome] = loop.create_future()

        def work() -> None:
            found = self._work(job.id, job.job, job.stop)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(done.set_result, found)

        threading.Thread(target=work, daemon=True).start()
        return await done

    async def _look(self) -> None:
        """Cancel the jobs that no host asks for any more."""
        while True:
            await asyncio.sleep(_LOOK_S)
            last = time.monotonic() - self._limits.lease_s
            for job in list(self._all.values()):
                if job.state not in ENDED and job.asked < last and not job.stop.is_set():
                    event("job abandoned", job=job.id)
                    self._cancel(job)

    def _forget(self) -> None:
        """Ended jobs that are old or too many."""
        ended = sorted(
            (job for job in self._all.values() if job.state in ENDED), key=lambda job: job.ended
        )
        old = time.monotonic() - _KEPT_S
        for index, job in enumerate(ended):
            if job.ended < old or index < len(ended) - _KEPT:
                del self._all[job.id]
