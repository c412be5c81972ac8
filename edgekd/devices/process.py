"""A process that measures, from the side of the one that started it: bounded in time and memory.

Unlike `edgekd.processes.child` its answers are JSON that is held against a type: the models that
it runs may come from anywhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from edgekd.devices.plain_text import without_paths
from edgekd.devices.worker import LENGTH
from edgekd.errors import EdgekdError, GateError, InputError
from edgekd.processes.child import thread_variables
from edgekd.serve.limits import TOKEN_VARIABLE

Result = TypeVar("Result")
Reason = Literal["crashed", "timeout", "memory", "cancelled"]

_MAX_ANSWER = 1 << 26  # bytes; 10,000 samples of a component are a hundredth
_WATCH_S = 0.2
# The search path goes along, so that a child finds the very modules that its parent has.
_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; "
    "from edgekd.devices.worker import main; main({parent}, {memory})"
)


class EndedError(GateError):
    """A measuring process did not live to the end of its work.

    Attributes:
        reason: why.
    """

    def __init__(self, rule: str, found: str, fix: str = "", reason: Reason = "crashed") -> None:
        super().__init__(rule, found, fix)
        self.reason = reason


class DefectError(EdgekdError):
    """A defect of edgekd that showed in a measuring process; its stderr has the traceback."""

    exit_code = 1


@dataclass(frozen=True)
class Bounds:
    """Of a piece of work, which may take several processes.

    Attributes:
        memory_bytes: of a process; None: no limit.
        seconds: of the whole work from `started` on, by the monotonic clock; None: no limit.
        folder: that its processes work in; paths in their messages are relative to it.
        stop: set by others: the work ends at once.
    """

    memory_bytes: int | None = None
    seconds: float | None = None
    folder: Path | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.monotonic)

    def left_s(self) -> float:
        if self.seconds is None:
            return float("inf")
        return self.started + self.seconds - time.monotonic()


class Measuring:
    """One fresh process, a context manager; it ends with the context, and with its parent."""

    def __init__(self, threads: int, bounds: Bounds) -> None:
        """Start it; its libraries have no more than so many threads each.

        Raises:
            EndedError: there is no time left.
        """
        self._bounds = bounds
        self._reason: Reason | None = None
        self._check_time()
        program = _PROGRAM.format(
            path=[os.path.abspath(entry) for entry in sys.path],
            parent=os.getpid(),
            memory=bounds.memory_bytes,
        )
        inherited = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=bounds.folder,
            env={**inherited, **thread_variables(threads)},
        )

    def __enter__(self) -> Measuring:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def call(self, answer: type[Result], function: Callable[..., Any], *arguments: Any) -> Result:
        """What a function returns there, read as `answer`: dataclasses come as objects of JSON.

        Raises:
            InputError, GateError: the same as there, without paths of this machine.
            EndedError: the process ended, or had to be ended.
            DefectError: any other error there.
        """
        self._check_time()  # calls may be shorter than the watcher's first look
        watching = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(watching,), daemon=True)
        watcher.start()
        try:
            content = self._ask(pickle.dumps((function, arguments)))
        finally:
            watching.set()
            watcher.join()
        try:
            found = json.loads(content)
            if "failure" in found:
                raise _error(found["failure"], self._bounds.folder)
            return TypeAdapter(answer).validate_python(found["result"])
        except (ValueError, ValidationError, TypeError, KeyError, RecursionError):
            raise EndedError("a measuring process must answer", "something else") from None

    def _ask(self, request: bytes) -> bytes:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            pickle.dump(request, self.process.stdin)
            self.process.stdin.flush()
            head = self.process.stdout.read(LENGTH.size)
            length = LENGTH.unpack(head)[0] if len(head) == LENGTH.size else -1
            content = self.process.stdout.read(length) if 0 <= length <= _MAX_ANSWER else b""
        except OSError:  # a broken pipe
            raise self._end() from None
        if length < 0 or len(content) != length:
            raise self._end()
        return content

    def _watch(self, done: threading.Event) -> None:
        """End the process when it has used up its time or memory, or the work is to stop."""
        import psutil

        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.process.pid)
            while not done.wait(_WATCH_S):
                reason = self._why_end(process)
                if reason is not None:
                    self._reason = reason
                    self.process.kill()
                    return

    def _why_end(self, process: Any) -> Reason | None:
        if self._bounds.stop.is_set():
            return "cancelled"
        if self._bounds.left_s() <= 0:
            return "timeout"
        memory = self._bounds.memory_bytes
        if memory is not None and process.memory_info().rss > memory:
            return "memory"
        return None

    def _check_time(self) -> None:
        if self._bounds.stop.is_set():
            raise _ended("cancelled", "")
        if self._bounds.left_s() <= 0:
            raise _ended("timeout", f"{self._bounds.seconds:g} s")

    def _end(self) -> EndedError:
        self.process.kill()  # it has answered with what is no answer, if it lives
        code = self.process.wait()
        if self._reason is not None:
            bounds = self._bounds
            found = {"memory": f"{bounds.memory_bytes} bytes", "timeout": f"{bounds.seconds:g} s"}
            return _ended(self._reason, found.get(self._reason, ""))
        if os.name == "posix" and code < 0:
            name = signal.Signals(-code).name
            return _ended("memory" if name == "SIGKILL" else "crashed", name)
        return _ended("crashed", f"code {code:#x}")

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()


def _ended(reason: Reason, found: str) -> EndedError:
    rules = {
        "memory": "a model must fit in the memory of a measuring process",
        "timeout": "a job must end in the time that the device gives it",
        "crashed": "the process that runs a model must live to the end",
        "cancelled": "a job must be wanted to its end",
    }
    return EndedError(rules[reason], found or "its cancellation", reason=reason)


def _error(failure: dict[str, str], folder: Path | None) -> EdgekdError:
    """What a process there failed with, as an error of this one."""
    rule, found, fix = (
        without_paths(str(failure[name]), folder) for name in ("rule", "found", "fix")
    )
    if failure["code"] == "memory":
        return EndedError(rule, found, fix, reason="memory")
    kinds = {"input": InputError, "gate": GateError}
    return kinds.get(failure["code"], DefectError)(rule, found, fix)
