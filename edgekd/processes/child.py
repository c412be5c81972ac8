"""A process of its own for work that is measured, may need too much memory, or runs beside others.

It is a fresh interpreter: nothing that this process did is in its memory or its times. Calls go to
it pickled, and results and errors come back so; `edgekd.processes.serve` is its side.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import IO, ParamSpec, TypeVar

from edgekd.errors import EdgekdError, MemoryGateError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_LAST_WORDS = 500
# The search path goes along, so that a child finds the very modules that its parent has.
_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; from edgekd.processes.serve import main; main({parent})"
)


def thread_variables(threads: int) -> dict[str, str]:
    """Of a process whose libraries are to have no more threads than that each."""
    return dict.fromkeys(_THREAD_VARIABLES, str(threads))


class ChildError(EdgekdError):
    """A defect of edgekd that showed in a child, or the child's unforeseen end."""

    exit_code = 1
    from_outside = True


@dataclass(frozen=True)
class Failure:
    """What a child answers in place of a result.

    Attributes:
        trace: the child's traceback, of an error that is not meant for the user.
    """

    error: Exception
    trace: str = ""


class Child:
    """One fresh process, a context manager; it ends with the context, and with its parent.

    Attributes:
        work: what it does, for messages.
    """

    def __init__(self, work: str, threads: int | None = None) -> None:
        """Start it; with `threads`, its libraries have no more threads than that each."""
        self.work = work
        pinned = thread_variables(threads) if threads else {}
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(path=sys.path, parent=os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env={**os.environ, **pinned},
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def call(
        self,
        function: Callable[Arguments, Result],
        *arguments: Arguments.args,
        **options: Arguments.kwargs,
    ) -> Result:
        """What `function(*arguments, **options)` returns there; all must be picklable.

        Raises:
            EdgekdError: the same as in the child, and OSError too.
            ChildError: any other error in the child, or its end.
            MemoryGateError: the system killed the child, which it does for want of memory.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = pickle.dumps((function, arguments, options))
        try:
            pickle.dump(request, self.process.stdin)
            self.process.stdin.flush()
            answer: Result | Failure = pickle.load(self.process.stdout)
        except (BrokenPipeError, EOFError, pickle.UnpicklingError):
            raise self._end() from None
        if isinstance(answer, Failure):
            raise answer.error from (RuntimeError(answer.trace) if answer.trace else None)
        return answer

    def _end(self) -> EdgekdError:
        code = self.process.wait()
        if code == -signal.SIGKILL:
            return MemoryGateError(
                "the work must fit in the memory of this machine",
                f"a process that the system killed: `{self.work}`",
                "Close other programs, or ask for less at a time.",
            )
        self._words.seek(0)
        words = self._words.read().decode(errors="replace")[-_LAST_WORDS:]
        end = signal.Signals(-code).name if code < 0 else f"code {code}"
        found = f"{end} {words}".strip()
        return ChildError(f"the process of `{self.work}` must live to the end", found)

    def close(self) -> None:
        """End it; what it had finished is on disk."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._words):
            # stdin may hold half a request for a process that is no more.
            with contextlib.suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()
