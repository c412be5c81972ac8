"""The server's side of a worker process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable

from edgekd.errors import EdgekdError
from edgekd.serve.messages import Order, Reply, Setup, pack_order, read_reply

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# The search path goes along, so that a worker finds the very modules that the server has.
_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; from edgekd.serve.worker import main; main({setup!r})"
)


class WorkerLostError(Exception):
    """A worker's process has ended in the midst of its work."""


class UnableError(EdgekdError):
    """A worker cannot open the default model."""


class WorkerProcess:
    """One fresh interpreter that draws; `start` makes it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.loaded: tuple[str, ...] = ()

    @classmethod
    async def start(cls, setup: Setup) -> WorkerProcess:
        """Start a worker and wait until its default model is loaded.

        Raises:
            UnableError: it cannot be loaded.
            WorkerLostError: the process ended.
        """
        pinned = dict.fromkeys(_THREAD_VARIABLES, str(setup.threads)) if setup.threads else {}
        program = _PROGRAM.format(path=sys.path, setup=setup.text())
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdin=PIPE, stdout=PIPE, env={**os.environ, **pinned}
        )
        worker = cls(process)
        try:
            reply = await worker._read()
        except BaseException:
            await worker.close()
            raise
        if reply.kind != "ready":
            await worker.close()
            raise UnableError("the default model must be ready to draw", reply.message)
        worker.loaded = reply.loaded
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    async def draw(self, order: Order, on_preview: Callable[[Reply], None]) -> Reply:
        """The last reply to an order.

        Raises:
            WorkerLostError: the process ended.
        """
        self._send(order)
        while (reply := await self._read()).kind == "preview":
            on_preview(reply)
        self.loaded = reply.loaded
        return reply

    def stop(self, number: int) -> None:
        """Let the order of this number end after the step that it is at."""
        self._send(Order(number))

    async def ended(self) -> None:
        """Wait for the process's end."""
        await self._process.wait()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        """End the process, whatever it is at."""
        self.kill()
        await self._process.wait()

    def _send(self, order: Order) -> None:
        assert self._process.stdin is not None
        # A process that has ended is noticed where its reply is awaited.
        with contextlib.suppress(OSError, RuntimeError):
            self._process.stdin.write(pack_order(order))

    async def _read(self) -> Reply:
        assert self._process.stdout is not None
        try:
            return await read_reply(self._process.stdout)
        except (EOFError, OSError):
            raise WorkerLostError from None
