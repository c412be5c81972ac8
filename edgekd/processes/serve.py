"""A child's side: answer calls until the parent closes the pipe or dies."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import threading
import traceback
from queue import SimpleQueue
from typing import BinaryIO

from edgekd.errors import EdgekdError
from edgekd.processes.child import ChildError, Failure

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main(parent: int) -> None:
    """Serve a parent process through stdin and stdout."""
    end_with(parent)
    waiting, answers = take_pipes()
    while True:
        answers.write(answer(waiting.get()))
        answers.flush()


def take_pipes() -> tuple[SimpleQueue[bytes], BinaryIO]:
    """Requests as they come, and where answers go: stdin and stdout, which nothing else has now."""
    # Ctrl-C is the parent's business: it ends its children itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What libraries print must not come between the answers, nor what they read between calls.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    waiting: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(requests, waiting), daemon=True).start()
    return waiting, answers


def end_with(parent: int) -> None:
    """Linux ends this process with its parent, whatever it is at; elsewhere the pipe's end does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the system was asked
            os._exit(1)


def _receive(requests: BinaryIO, waiting: SimpleQueue[bytes]) -> None:
    """Read in a thread: the end of the pipe must be seen in the midst of work too."""
    while True:
        try:
            waiting.put(pickle.load(requests))
        except (EOFError, pickle.UnpicklingError):
            os._exit(1)


def answer(request: bytes) -> bytes:
    """The pickled result of a pickled call, or the `Failure` that it ended in."""
    try:
        function, arguments, options = pickle.loads(request)
        return pickle.dumps(function(*arguments, **options))
    except EdgekdError as error:
        return pickle.dumps(Failure(error))
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            plain = OSError(error.errno, error.strerror, error.filename)
            return pickle.dumps(Failure(plain, traceback.format_exc()))
        frame = traceback.extract_tb(error.__traceback__)[-1]
        found = f"{type(error).__name__} at {frame.filename}:{frame.lineno}: {error}"
        told = ChildError("a process of edgekd must do its work", found)
        return pickle.dumps(Failure(told, traceback.format_exc()))
