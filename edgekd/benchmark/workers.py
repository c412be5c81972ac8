"""A pool of fresh worker processes with pinned thread counts.

Two processes of one thread draw more than one process of two threads: small
U-Nets have too little work per operator to share. And a fresh process times
nothing that training left behind in this one.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from edgekd import errors

Request = dict[str, Any]
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def thread_environment(threads: int) -> dict[str, str]:
    """Environment variables that limit the thread pools of a process to be started."""
    return {name: str(threads) for name in _THREAD_VARIABLES}


class WorkerProcess:
    """One worker; `ask` blocks until it has answered."""

    def __init__(self, threads: int) -> None:
        self._errors: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgekd.benchmark.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **thread_environment(threads)},
        )

    def ask(self, request: Request) -> dict[str, Any]:
        """Send one request.

        Raises:
            EdgekdError: the worker met one; it is raised here again.
            RuntimeError: the worker crashed; the message holds its last words.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None
        line = self._process.stdout.readline()
        if not line:
            raise self._death()
        reply: dict[str, Any] = json.loads(line)
        if "error" not in reply:
            return dict(reply["result"])
        if reply["error"] == "crash":
            raise RuntimeError(f"a benchmark worker failed:\n{reply['arguments'][0]}")
        raise getattr(errors, reply["error"])(*reply["arguments"])

    def _death(self) -> RuntimeError:
        code = self._process.wait()
        self._errors.seek(0)
        return RuntimeError(
            f"a benchmark worker ended with code {code} (-9: killed, often for want of memory): "
            f"{self._errors.read()[-2000:]}"
        )

    def close(self) -> None:
        """End the process; what it had finished is on disk."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            # stdin may hold half a request for a process that is no more.
            with contextlib.suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()


class WorkerPool:
    """Context manager over `count` workers, started at the first use."""

    def __init__(self, count: int, threads: int) -> None:
        self.count = count
        self.threads = threads
        self._workers: list[WorkerProcess] = []

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.close()
        self._workers = []

    def ask_one(self, request: Request) -> dict[str, Any]:
        """One request to one worker while the others rest."""
        self._start(1)
        return self._workers[0].ask(request)

    def ask_all(self, requests: list[Request], done: Callable[[Request], None]) -> None:
        """Share requests among the workers, in order; `done` is called after each.

        Raises:
            the first error of any worker; requests not yet sent are dropped.
        """
        self._start(min(self.count, len(requests)))
        waiting = deque(requests)
        failures: list[BaseException] = []
        one_at_a_time = threading.Lock()

        def serve(worker: WorkerProcess) -> None:
            while waiting and not failures:
                try:
                    request = waiting.popleft()
                except IndexError:
                    return
                try:
                    worker.ask(request)
                except BaseException as error:
                    failures.append(error)
                    return
                with one_at_a_time:
                    done(request)

        threads = [
            threading.Thread(target=serve, args=(worker,), daemon=True) for worker in self._workers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def _start(self, count: int) -> None:
        while len(self._workers) < count:
            self._workers.append(WorkerProcess(self.threads))


def pool_size(asked: int, batches: int, largest_bytes: int) -> tuple[int, int]:
    """Worker count and threads each.

    Args:
        asked: the suite's `workers`; 0: one per core, as far as memory reaches.
        batches: units of work.
        largest_bytes: size on disk of the largest pipeline; float16 weights double when loaded,
            and activations are taken to need as much again.
    """
    import psutil

    from edgekd.measure.environment import cores

    fits = max(1, int(psutil.virtual_memory().available * 0.8 // (4 * largest_bytes + 2**30)))
    count = max(1, min(asked or min(cores(), fits), batches))
    return count, max(1, cores() // count)


def read_images(path: Path) -> Any:
    """A batch written by a worker: uint8 [B,H,W,3]."""
    from safetensors.numpy import load_file

    return load_file(path)["images"]
