"""Children behind the interface of `concurrent.futures`."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from edgekd.processes.child import Child

if TYPE_CHECKING:
    import torch

Arguments = ParamSpec("Arguments")
Task = TypeVar("Task")
Argument = TypeVar("Argument")
Result = TypeVar("Result")


class Pool(ThreadPoolExecutor):
    """Up to `count` children, each started by the first call that finds none free.

    Leaving the context ends them at once, whatever they are at.
    """

    def __init__(
        self, work: str, count: int, threads: int | None = None, fresh: bool = False
    ) -> None:
        """See `Child`; with `fresh`, every call has a child of its own."""
        super().__init__(count)
        self.threads = threads
        self._work = work
        self._fresh = fresh
        self._mine = threading.local()
        self._children: list[Child] = []
        self._starting = threading.Lock()
        self._ended = False

    def submit(
        self,
        function: Callable[Arguments, Result],
        /,
        *arguments: Arguments.args,
        **options: Arguments.kwargs,
    ) -> Future[Result]:
        return super().submit(self._ask, lambda child: child.call(function, *arguments, **options))

    def _ask(self, question: Callable[[Child], Result]) -> Result:
        child = getattr(self._mine, "child", None)
        if child is None:
            child = self._mine.child = self._start()
        try:
            return question(child)
        finally:
            if self._fresh:
                child.close()
                self._mine.child = None

    def _start(self) -> Child:
        with self._starting:
            if self._ended:
                raise RuntimeError("a pool that was left starts no children")
            child = Child(self._work, self.threads)
            self._children.append(child)
            return child

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._starting:
            self._ended = True
        for child in self._children:
            child.process.kill()
        self.shutdown(cancel_futures=True)
        for child in self._children:
            child.close()


def each(
    pool: Executor, function: Callable[[Argument], Result], arguments: Iterable[Argument]
) -> Iterator[tuple[Argument, Result]]:
    """Every argument with its result, as they come.

    Raises:
        the first error of any call; calls that have not begun do not then, when the context of the
        pool is left.
    """
    futures = {pool.submit(function, argument): argument for argument in arguments}
    for future in as_completed(futures):
        yield futures[future], future.result()


@contextlib.contextmanager
def batch_threads(device: torch.device) -> Iterator[Executor | None]:
    """On a CPU, as many threads as torch would use, each for a batch of its own; elsewhere None.

    Small models on small images waste most of the time of threads that share a batch;
    and a batch on one thread gives the same bits on any number of cores.
    """
    import torch

    count = torch.get_num_threads()
    if device.type != "cpu":
        yield None
        return
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(count)


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
