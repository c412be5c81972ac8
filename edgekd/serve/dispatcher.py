"""The queue, and the workers that empty it."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edgekd.serve import problems
from edgekd.serve.figures import Figures
from edgekd.serve.logs import event
from edgekd.serve.messages import Drawing, Order, Reply
from edgekd.serve.process import UnableError, WorkerLostError

_LONGEST_PAUSE_S = 10.0  # between starts of a worker that ends at once
_SMOOTHING = 0.1  # of the mean service time, from which Retry-After is told


class DrawingWorker(Protocol):
    """What `WorkerProcess` is to the dispatcher."""

    loaded: tuple[str, ...]

    @property
    def pid(self) -> int: ...
    async def draw(self, order: Order, on_preview: Callable[[Reply], None]) -> Reply: ...
    def stop(self, number: int) -> None: ...
    def kill(self) -> None: ...
    async def ended(self) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True)
class Picture:
    """A finished picture's file.

    Attributes:
        waited_s: in the queue.
        drawn_s: in its worker, without loading the model and without previews.
    """

    content: bytes
    waited_s: float
    drawn_s: float


@dataclass(eq=False)
class Job:
    """One picture on its way.

    Attributes:
        done: the picture, or the `Problem` that it ended in; cancelled when nobody waits for it.
    """

    number: int
    drawing: Drawing
    on_preview: Callable[[Reply], None]
    done: asyncio.Future[Picture]
    submitted: float = field(default_factory=time.perf_counter)
    worker: DrawingWorker | None = None  # while it is drawn


@dataclass(eq=False)
class _Slot:
    """The place of one worker, which outlives its processes."""

    index: int
    worker: DrawingWorker | None = None
    next_job: asyncio.Future[Job] | None = None  # while it is idle


class Dispatcher:
    """Gives waiting pictures to idle workers, first come, first served.

    Args:
        start: starts a worker process.
        count: how many.
        limit: pictures that may wait.
        stuck_s: a worker that has not stopped after this time is killed.
    """

    def __init__(
        self,
        start: Callable[[], Awaitable[DrawingWorker]],
        count: int,
        limit: int,
        figures: Figures,
        stuck_s: float,
    ) -> None:
        self._start = start
        self._limit = limit
        self._figures = figures
        self._stuck_s = stuck_s
        self._slots = [_Slot(index) for index in range(count)]
        self._waiting: deque[Job] = deque()
        self._running: set[Job] = set()
        self._numbers = itertools.count()
        self._tasks: list[asyncio.Task[None]] = []
        self._service_s = 1.0
        self.draining = False

    async def open(self) -> None:
        """Start the workers; returns when the first is ready, the others follow.

        Raises:
            UnableError: the default model cannot be loaded.
            WorkerLostError: the process ended while it started.
        """
        self._slots[0].worker = await self._start()
        self._tasks = [asyncio.create_task(self._keep(slot)) for slot in self._slots]

    @property
    def is_ready(self) -> bool:
        return not self.draining and any(slot.worker is not None for slot in self._slots)

    def pids(self) -> dict[str, int]:
        return {
            f"worker {slot.index}": slot.worker.pid
            for slot in self._slots
            if slot.worker is not None
        }

    def submit(
        self, drawings: Sequence[Drawing], on_preview: Callable[[int, Reply], None]
    ) -> list[Job]:
        """Queue the pictures of a request, all or none; `on_preview` is told which one.

        Raises:
            Problem: they do not fit, or the server is shutting down.
        """
        if self.draining:
            raise problems.shutting_down()
        # Idle workers take theirs at once.
        idle = sum(slot.next_job is not None for slot in self._slots)
        if len(self._waiting) + len(drawings) > self._limit + idle:
            raise problems.queue_full(self.retry_after())
        loop = asyncio.get_running_loop()
        jobs = []
        for index, drawing in enumerate(drawings):
            tell = _telling(on_preview, index)
            jobs.append(Job(next(self._numbers), drawing, tell, loop.create_future()))
        self._waiting.extend(jobs)
        self._dispatch()
        return jobs

    def retry_after(self) -> int:
        """Seconds until the pictures that wait now are drawn, 1 to 60."""
        seconds = len(self._waiting) * self._service_s / len(self._slots)
        return min(60, max(1, math.ceil(seconds)))

    def cancel(self, job: Job) -> None:
        """Nobody waits for it: leave the queue, or stop between steps. Finished jobs stay so."""
        if job.done.done():
            return
        job.done.cancel()
        self._figures.stopped.inc()
        if job.worker is None:
            self._waiting.remove(job)
            self._count()
        else:
            job.worker.stop(job.number)

    async def drain(self, grace_s: float) -> None:
        """Refuse new pictures; finish the others within the time, then give them up."""
        self.draining = True
        begun = [job.done for job in (*self._waiting, *self._running)]
        if begun:
            await asyncio.wait(begun, timeout=grace_s)
        self.give_up()

    def give_up(self) -> None:
        """End all pictures that are not there yet; their requests are told so."""
        for job in (*self._waiting, *self._running):
            _fail(job, problems.shutting_down())
        self._waiting.clear()

    async def close(self) -> None:
        """End the workers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(slot.worker.close() for slot in self._slots if slot.worker))

    def _count(self) -> None:
        self._figures.queue.set(len(self._waiting))
        self._figures.running.set(len(self._running))

    def _dispatch(self) -> None:
        """Hand out jobs: to a worker that holds the model, where one of the idle ones does."""
        while self._waiting:
            idle = [slot for slot in self._slots if slot.next_job is not None]
            if not idle:
                break
            job = self._waiting.popleft()
            name = job.drawing.model
            slot = next((one for one in idle if one.worker and name in one.worker.loaded), idle[0])
            assert slot.next_job is not None
            slot.next_job.set_result(job)
            slot.next_job, job.worker = None, slot.worker
            self._running.add(job)
        self._count()

    async def _keep(self, slot: _Slot) -> None:
        """Keep a worker alive and at work."""
        pause = 0.1
        while True:
            try:
                if slot.worker is None:
                    slot.worker = await self._start()
                await self._work(slot, slot.worker)
            except (WorkerLostError, UnableError, OSError) as error:
                had_worked, slot.worker = slot.worker, None
                self._figures.lost.inc()
                event("worker lost", worker=slot.index, error=type(error).__name__)
                if had_worked is not None:
                    await had_worked.close()
                    pause = 0.1
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _work(self, slot: _Slot, worker: DrawingWorker) -> None:
        """Draw job after job.

        Raises:
            WorkerLostError: the process ended.
        """
        while True:
            job = await self._next(slot, worker)
            started = time.perf_counter()
            guard = asyncio.create_task(self._end_if_stuck(job, worker))
            try:
                reply = await worker.draw(Order(job.number, job.drawing), job.on_preview)
            except WorkerLostError:
                _fail(job, problems.worker_lost())
                raise
            finally:
                guard.cancel()
                self._running.discard(job)
                self._count()
            self._finish(job, reply, started)

    async def _next(self, slot: _Slot, worker: DrawingWorker) -> Job:
        """The next job of an idle worker.

        Raises:
            WorkerLostError: the process ended meanwhile.
        """
        given: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
        slot.next_job = given
        self._dispatch()
        ended = asyncio.ensure_future(worker.ended())
        try:
            await asyncio.wait((given, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            slot.next_job = None
        if not given.done():
            raise WorkerLostError
        return given.result()

    async def _end_if_stuck(self, job: Job, worker: DrawingWorker) -> None:
        """A step that never ends would keep its worker from everybody else."""
        await asyncio.wait((job.done,))
        await asyncio.sleep(self._stuck_s)
        event("worker stuck", pid=worker.pid)
        worker.kill()

    def _finish(self, job: Job, reply: Reply, started: float) -> None:
        waited, service = started - job.submitted, time.perf_counter() - started
        if reply.kind == "failed":
            _fail(job, problems.drawing_failed(reply.message))
        if reply.kind != "picture":
            return
        self._service_s += _SMOOTHING * (service - self._service_s)
        self._figures.finished(job.drawing, waited, service, reply.seconds)
        if not job.done.done():
            job.done.set_result(Picture(reply.picture, waited, reply.seconds))


def _telling(tell: Callable[[int, Reply], None], index: int) -> Callable[[Reply], None]:
    return lambda reply: tell(index, reply)


def _fail(job: Job, problem: problems.Problem) -> None:
    if not job.done.done():
        job.done.set_exception(problem)
        job.done.exception()  # it may be that nobody waits for it
