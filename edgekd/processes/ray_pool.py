"""Work for a Ray cluster behind the interface of `concurrent.futures`, as children have it.

A call goes there pickled, and its result or its error comes back, exactly as between a process and
its children (`edgekd.processes.serve`). Ray does a call again whose worker was lost. It would end
this process a minute after it has lost its head; a watch sees that before and says so.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, InvalidStateError
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from edgekd.errors import EdgekdError, InputError, LostError, MemoryGateError
from edgekd.files import code_key
from edgekd.processes.child import ChildError, Failure
from edgekd.processes.serve import answer

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

HEAD = re.compile(r"\[?(?P<host>[^\[\]/]+)\]?:(?P<port>\d+)")
CONNECT_S = 5.0
_LOOK_EVERY_S, _LOST_AFTER_S = 1.0, 10.0
_RETRIES = 3  # of a call whose worker was lost


@dataclass(frozen=True)
class Share:
    """What a call takes of a machine: CPU threads, and bytes of memory (0: it does not matter)."""

    threads: int = 1
    memory_bytes: int = 0


class Cluster:
    """A Ray cluster that this process is connected to; `edgekd.processes.ray_start` makes it.

    Attributes:
        cores: of all machines together.
    """

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.cores = int(sum(machine.get("CPU", 0) for machine in machines))
        self._most = Share(
            max(1, int(max(machine.get("CPU", 0) for machine in machines))),
            int(max(machine.get("memory", 0) for machine in machines)),
        )
        self._waiting: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._lost: LostError | None = None
        self._closing = threading.Event()
        self._head = ray.get_runtime_context().gcs_address
        threading.Thread(target=self._watch, daemon=True).start()

    def pool(self, work: str, share: Share | None = None) -> RayPool:
        """Tasks that take a share each; a share above the largest machine is cut to it."""
        asked, most = share or Share(), self._most
        memory = min(asked.memory_bytes, most.memory_bytes)
        return RayPool(self, work, Share(min(asked.threads, most.threads), memory))

    def check(self, folder: Path) -> None:
        """Every machine must have this very edgekd, and the folder that work is handed over in.

        Raises:
            InputError: one has not.
        """
        own = code_key()
        for node in (node for node in self._ray.nodes() if node["Alive"]):
            place, name = _on_node(node["NodeID"]), node["NodeManagerAddress"]
            try:
                found, sees = self.pool("look at a machine").on(place, _look, folder.absolute())
            except ChildError as error:
                raise _wrong_edgekd(name, error.found) from None
            if found != own:
                raise _wrong_edgekd(name, f"another one at {name}")
            if not sees:
                raise InputError(
                    "every machine of a Ray cluster must see the run folder under its path here",
                    f"no {folder.absolute()} at {name}",
                    "Use a file system that all machines share.",
                )

    def start(self, task: Any, request: bytes) -> tuple[Any, Future[Any]]:
        """Begin a call; returns Ray's reference and the answer to come.

        Raises:
            LostError: the head was lost before.
        """
        answered: Future[Any] = Future()
        answered.set_running_or_notify_cancel()
        with self._lock:
            if self._lost is not None:
                raise self._lost
            self._waiting.add(answered)
        reference = task.remote(os.getcwd(), request)
        reference.future().add_done_callback(lambda done: self._settle(answered, done))
        return reference, answered

    def cancel(self, reference: Any) -> None:
        """Have a call stopped, whatever it is at."""
        if self._lost is None:
            self._ray.cancel(reference, force=True)

    def close(self) -> None:
        """Leave the cluster; a local one ends."""
        self._closing.set()
        self._ray.shutdown()

    def _settle(self, answered: Future[Any], done: Future[bytes]) -> None:
        with self._lock:
            self._waiting.discard(answered)
        with contextlib.suppress(InvalidStateError):  # the head was lost meanwhile
            error = done.exception()
            if error is not None:
                answered.set_exception(self._told(error))
                return
            content: Any | Failure = pickle.loads(done.result())
            if isinstance(content, Failure):
                content.error.__cause__ = RuntimeError(content.trace) if content.trace else None
                answered.set_exception(content.error)
            else:
                answered.set_result(content)

    def _told(self, error: BaseException) -> EdgekdError:
        """What of Ray's a call ended in."""
        errors = self._ray.exceptions
        if isinstance(error, errors.OutOfMemoryError):
            return MemoryGateError(
                "the work must fit in the memory of its machine",
                "a process that Ray ended for its memory",
                "Use machines with more of it, or ask for less at a time.",
            )
        if isinstance(error, (errors.LocalRayletDiedError, errors.RaySystemError)):
            return self._loss()
        reason = f"{type(error).__name__} {str(error).strip().splitlines()[-1]}"
        return ChildError("a worker of the Ray cluster must live to the end of its work", reason)

    def _watch(self) -> None:
        """Ray itself says nothing of a lost head for a minute, and then ends this process."""
        match = HEAD.fullmatch(self._head)
        assert match is not None
        seen = time.monotonic()
        while not self._closing.wait(_LOOK_EVERY_S):
            with contextlib.suppress(OSError):
                socket.create_connection((match["host"], int(match["port"])), CONNECT_S).close()
                seen = time.monotonic()
            if time.monotonic() - seen > _LOST_AFTER_S:
                self._lose()
                return

    def _loss(self) -> LostError:
        return LostError(
            "the head of the Ray cluster must live to the end of the work",
            f"no answer from {self._head}",
            "Finished work is kept: run the same command again, on a cluster that is there.",
        )

    def _lose(self) -> None:
        with self._lock:
            self._lost = self._loss()
            waiting, self._waiting = self._waiting, set()
        for answered in waiting:
            with contextlib.suppress(InvalidStateError):
                answered.set_exception(self._loss())


class RayPool(Executor):
    """Calls to a cluster that take a share of a machine each, a context manager.

    Leaving the context stops what is under way.

    Attributes:
        share: what each call takes.
    """

    def __init__(self, cluster: Cluster, work: str, share: Share) -> None:
        self.share = share
        self._cluster = cluster
        options: dict[str, Any] = {"num_cpus": share.threads, "max_retries": _RETRIES}
        if share.memory_bytes:
            options["memory"] = share.memory_bytes
        self._task = cluster._ray.remote(**options, name=work)(answer_in)
        self._references: dict[Future[Any], Any] = {}

    def submit(
        self,
        function: Callable[Arguments, Result],
        /,
        *arguments: Arguments.args,
        **options: Arguments.kwargs,
    ) -> Future[Result]:
        """As `Pool.submit`: `function`, its arguments and its result must be picklable.

        Raises:
            LostError: the head was lost before; the future holds it where it is lost after.
        """
        request = pickle.dumps((function, arguments, options))
        reference, answered = self._cluster.start(self._task, request)
        self._references[answered] = reference
        # A reference keeps its result in the cluster's memory.
        answered.add_done_callback(lambda done: self._references.pop(done, None))
        return answered

    def on(self, place: Any, function: Callable[..., Result], *arguments: Any) -> Result:
        """What a call gives at a place of Ray's."""
        task = self._task.options(scheduling_strategy=place)
        request = pickle.dumps((function, arguments, {}))
        result: Result = self._cluster.start(task, request)[1].result()
        return result

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for reference in list(self._references.values()):
            self._cluster.cancel(reference)


def _wrong_edgekd(machine: str, found: str) -> InputError:
    return InputError(
        "every machine of a Ray cluster must have the same edgekd as this one",
        found if machine in found else f"{found} at {machine}",
    )


def _on_node(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id=node, soft=False)


def answer_in(folder: str, request: bytes) -> bytes:
    """As `answer`, in the working folder of who asks, as a child would be, on the CPU: Ray hides no
    GPU from a call that did not ask for one, and all calls of a machine would take the first."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with contextlib.suppress(FileNotFoundError):  # paths may all be absolute
        os.chdir(folder)
    return answer(request)


def _look(folder: Path) -> tuple[str, bool]:
    """Which edgekd is here, and whether a folder is."""
    return code_key(), folder.is_dir()
