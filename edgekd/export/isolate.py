"""Where the steps of an export run: in this process, or each in a child that returns its memory.

A pipeline of up to `ISOLATE_ABOVE_BYTES` is exported in this process: starting an interpreter with
torch and diffusers takes seconds for each step, and there is little memory to return. A larger one,
and any with a memory limit, has each step in a fresh process that loads only what the step needs;
this process then holds recordings and no weights.

A limit is kept by a watch on the resident memory of this process and all its children: 50 times a
second it adds them up, and above the limit it kills the step. What a step fills between two looks
is found when it ends, by the kernel's own mark of its peak: then the export has failed too.
(`RLIMIT_AS` is of no use: torch maps tens of gigabytes that it never touches.)
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from edgekd.errors import GateError, InputError
from edgekd.export.pages import returned_pages
from edgekd.export.protocol import Exporter
from edgekd.export.steps import Load
from edgekd.measure.memory import forget_peak, measured, peak_resident_bytes, resident_bytes
from edgekd.processes.child import Child

ISOLATE_ABOVE_BYTES = 500_000_000
_LOOK_SECONDS = 0.02
_LOOKS_PER_CENSUS = 25  # which children there are is asked more rarely: it reads all of /proc
_CHILD_BYTES = 300_000_000  # Python, torch and diffusers in a child, before any weight; at least

Order = TypeVar("Order")
Result = TypeVar("Result")
Step = Callable[[Order, Exporter, Load], Result]


@dataclass(frozen=True)
class Done(Generic[Result]):
    """What a step returned.

    Attributes:
        peak_rss_bytes: largest resident memory of the process that did it, while it did it.
    """

    result: Result
    peak_rss_bytes: int


class ExportWorker(Protocol):
    """Does the steps of one export.

    Attributes:
        isolated: whether each step has a process of its own.
        peak_rss_bytes: largest resident memory so far, all processes together.
    """

    isolated: bool
    peak_rss_bytes: int

    def run(self, step: Step[Order, Result], order: Order) -> Done[Result]:
        """Do a step of `edgekd.export.steps`; its errors are raised here."""


class InProcess:
    """Steps in this process, on pipelines that are loaded once."""

    isolated = False

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._pipelines: dict[Path, Any] = {}
        self.peak_rss_bytes = 0

    def run(self, step: Step[Order, Result], order: Order) -> Done[Result]:
        forget_peak()
        result = step(order, self._exporter, self._load)
        peak = peak_resident_bytes()
        self.peak_rss_bytes = max(self.peak_rss_bytes, peak)
        return Done(result, peak)

    def _load(self, path: Path, only: Collection[str] | None = None) -> Any:
        del only
        if path not in self._pipelines:
            self._pipelines[path] = _load(path)
        return self._pipelines[path]


@dataclass(frozen=True)
class _Call(Generic[Order, Result]):
    """A step for a child: the exporter is made anew there."""

    step: Step[Order, Result]
    order: Order
    exporter: Callable[[], Exporter]
    threads: int


class Isolated:
    """Each step in a child process."""

    isolated = True

    def __init__(self, exporter: Exporter, limit_bytes: int | None = None) -> None:
        self._exporter = type(exporter)
        self._limit_bytes = limit_bytes
        self.peak_rss_bytes = 0

    def run(self, step: Step[Order, Result], order: Order) -> Done[Result]:
        import torch

        name = f"{step.__name__} {getattr(order, 'component', '')}".strip()
        call = _Call(step, order, self._exporter, torch.get_num_threads())
        with Child(name) as child:
            watch = _Watch(child.process, self._limit_bytes)
            watch.start()
            try:
                done = child.call(measured, _do, call)
            except Exception:
                self._check_peak(watch.peak_bytes, name)
                raise
            finally:
                watch.stop()
        peak = done.memory.peak_bytes
        self._check_peak(max(watch.peak_bytes, peak + resident_bytes()), name)
        return Done(done.result, peak)

    def _check_peak(self, peak_bytes: int, step: str) -> None:
        self.peak_rss_bytes = max(self.peak_rss_bytes, peak_bytes)
        if self._limit_bytes is not None and peak_bytes > self._limit_bytes:
            raise GateError(
                f"the export must stay within --memory-limit {_gb(self._limit_bytes)}",
                f"{_gb(peak_bytes)} at the step `{step}`",
                "Raise the limit, or export a smaller pipeline.",
            ) from None


def make_worker(
    exporter: Exporter, parts_bytes: dict[str, int], limit_bytes: int | None
) -> ExportWorker:
    """The worker for a pipeline of these parts.

    Args:
        parts_bytes: float32 size of each model.
        limit_bytes: memory limit.

    Raises:
        InputError: the limit cannot be kept.
    """
    if limit_bytes is not None:
        check_limit(parts_bytes, limit_bytes)
    if limit_bytes is not None or sum(parts_bytes.values()) > ISOLATE_ABOVE_BYTES:
        return Isolated(exporter, limit_bytes)
    return InProcess(exporter)


def check_limit(parts_bytes: dict[str, int], limit_bytes: int) -> None:
    """Refuse a limit below what no export of such parts can do without.

    The recording step has all parts in memory. The conversion of a part has it twice: as torch's
    tensors and in the runtime's form. This process is there too, and Python and the libraries in
    the child. What more a step needs differs; the watch finds it.

    Raises:
        InputError: the limit is below that.
    """
    weights = max(sum(parts_bytes.values()), 2 * max(parts_bytes.values()))
    needed = weights + resident_bytes() + _CHILD_BYTES
    if limit_bytes < needed:
        raise InputError(
            f"--memory-limit must be at least {_gb(needed)} for this pipeline ({_gb(weights)} for "
            f"weights, {_gb(needed - weights)} for Python and libraries)",
            _gb(limit_bytes),
        )


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _do(call: _Call[Order, Result]) -> Result:
    """The child's side."""
    import torch

    torch.set_num_threads(call.threads)
    with returned_pages():
        return call.step(call.order, call.exporter(), _load)


def _load(path: Path, only: Collection[str] | None = None) -> Any:
    # Imported here: a step that loads no pipeline needs neither diffusers nor the time it takes.
    from edgekd.diffusion.load import load_pipeline

    return load_pipeline(path, only)


class _Watch(threading.Thread):
    """Adds up the resident memory of this process and its children; kills a child above a limit.

    Attributes:
        peak_bytes: largest sum seen.
    """

    def __init__(self, process: subprocess.Popen[bytes], limit_bytes: int | None) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._limit_bytes = limit_bytes
        self._process = process
        self._ended = threading.Event()

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        import psutil

        me = psutil.Process()
        tree = [me]
        look = 0
        while not self._ended.wait(_LOOK_SECONDS):
            if look % _LOOKS_PER_CENSUS == 0:
                tree = [me, *me.children(recursive=True)]
            look += 1
            self.peak_bytes = max(self.peak_bytes, sum(_resident(process) for process in tree))
            if self._limit_bytes is not None and self.peak_bytes > self._limit_bytes:
                self._kill()
                return

    def _kill(self) -> None:
        """The step, and what it may have started itself."""
        import psutil

        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                process.kill()
        self._process.kill()


def _resident(process: Any) -> int:
    import psutil

    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has ended
        return 0
