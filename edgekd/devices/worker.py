"""A measuring process's side: limits of its own first, then one piece of work after the other.

Requests come pickled from the process that started this one. Answers go back as JSON: what a model
has run in is not trusted with more. Nothing of pydantic is imported here, so that the start of this
process is that of an app.
"""

from __future__ import annotations

import json
import pickle
import struct
import sys
import traceback
from dataclasses import asdict, is_dataclass
from typing import Any

from edgekd.errors import EdgekdError, GateError
from edgekd.processes.serve import end_with, take_pipes

LENGTH = struct.Struct(">I")  # of an answer, before it
_WRITES = 1 << 20  # bytes of a file that a measuring process may write: none needs to write any


def main(parent: int, memory_bytes: int | None) -> None:
    """Serve a parent process through stdin and stdout.

    Args:
        memory_bytes: of data; None: no limits at all.
    """
    end_with(parent)
    if memory_bytes is not None:
        limit(memory_bytes)
    waiting, answers = take_pipes()
    while True:
        content = json.dumps(answer(waiting.get()), allow_nan=False).encode()
        answers.write(LENGTH.pack(len(content)) + content)
        answers.flush()


def limit(memory_bytes: int) -> None:
    """Bound this process, as far as its system can; the parent watches it besides, and its time.

    Not by RLIMIT_CPU: with it, Linux counts a process's time by its ticks of 4 ms, and samples of
    processor time would be of no use.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    # RLIMIT_DATA on Linux: all private memory that can be written.
    bounds = {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": _WRITES, "RLIMIT_DATA": memory_bytes}
    for name, bound in bounds.items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        if hard == resource.RLIM_INFINITY or bound < hard:
            resource.setrlimit(number, (bound, bound))


def answer(request: bytes) -> dict[str, Any]:
    """The result of a pickled call as JSON's types, or what it failed with."""
    try:
        function, arguments = pickle.loads(request)
        return {"result": plain(function(*arguments))}
    except EdgekdError as error:
        code = "gate" if isinstance(error, GateError) else "input"
        return _failure("memory" if _is_memory(str(error)) else code, error)
    except MemoryError:
        return _failure("memory", EdgekdError("the model must fit in the memory", "more"))
    except Exception as error:
        print(traceback.format_exc(), file=sys.stderr)
        found = type(error).__name__
        code = "memory" if _is_memory(str(error)) else "defect"
        return _failure(code, EdgekdError("a device must do its work", found))


def _failure(code: str, error: EdgekdError) -> dict[str, Any]:
    return {"failure": {"code": code, "rule": error.rule, "found": error.found, "fix": error.fix}}


def _is_memory(text: str) -> bool:
    """Whether a runtime ran out of memory, which each says in its own way."""
    low = text.lower()
    return any(word in low for word in ("bad_alloc", "bad allocation", "failed to allocate memory"))


def plain(value: Any) -> Any:
    """Dataclasses as objects."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value
