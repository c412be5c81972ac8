"""Work on a stream in several processes, with results in the stream's order."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from edgekd.errors import InputError

Task = TypeVar("Task")
Argument = TypeVar("Argument")
Result = TypeVar("Result")

# Starting a process costs about as much as this many images.
IMAGES_PER_PROCESS = 500


def worker_count(requested: int, images: int | None) -> int:
    """Processes to use: as requested; for 0 one per core that has enough to do."""
    if requested:
        return requested
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return cores if images is None else max(1, min(cores, images // IMAGES_PER_PROCESS))


@contextlib.contextmanager
def worker_pool(workers: int) -> Iterator[Executor | None]:
    """Fresh processes, or None for one worker: the work is then done in this process."""
    if workers <= 1:
        yield None
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        yield pool
    except BrokenProcessPool:
        raise InputError(
            "the worker processes must live to the end",
            "one that died, for want of memory perhaps",
            "Set `data.workers` to 1 to see more.",
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it even when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def ordered_map(
    pool: Executor | None,
    function: Callable[[Argument], Result],
    tasks: Iterable[tuple[Task, Argument]],
    ahead: int,
) -> Iterator[tuple[Task, Result]]:
    """Apply a function to the second of each pair; yield the first with the result, in order.

    At most `ahead` tasks are under way, so memory does not grow with the stream.
    """
    if pool is None:
        for task, argument in tasks:
            yield task, function(argument)
        return
    waiting: deque[tuple[Task, Future[Result]]] = deque()
    for task, argument in tasks:
        waiting.append((task, pool.submit(function, argument)))
        if len(waiting) >= ahead:
            first, future = waiting.popleft()
            yield first, future.result()
    while waiting:
        first, future = waiting.popleft()
        yield first, future.result()
