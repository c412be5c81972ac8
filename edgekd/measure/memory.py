"""Peak memory of a piece of work in a process of its own.

Measured in the process that runs the pipeline, the figure would hold whatever
that process did before. So a fresh interpreter (`edgekd.processes.child`) imports
the work's module, notes its resident memory (the *baseline*: Python and
libraries), does the work and reports its peak.

The peak is the kernel's own high-water mark, not a sample now and then:
`VmHWM` on Linux, because `ru_maxrss` survives `exec` there and would start at
the parent's peak; `peak_wset` on Windows; `ru_maxrss` elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

Order = TypeVar("Order")
Result = TypeVar("Result")

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class PeakMemory:
    """Resident memory of one fresh process, in bytes.

    Attributes:
        loaded_bytes: high-water mark when everything is loaded, before the first result.
        device_peak_bytes: of the accelerator; None: none was used.
    """

    baseline_bytes: int
    peak_bytes: int
    loaded_bytes: int | None = None
    device_peak_bytes: int | None = None

    @property
    def above_baseline_bytes(self) -> int:
        """What the work itself needed on top of Python and its libraries."""
        return self.peak_bytes - self.baseline_bytes

    def to_dict(self) -> dict[str, int | None]:
        return {**asdict(self), "above_baseline_bytes": self.above_baseline_bytes}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PeakMemory:
        """What `to_dict` gave."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class MeasuredWork(Generic[Result]):
    """What a piece of work returned, and what it needed."""

    result: Result
    memory: PeakMemory


def resident_bytes() -> int:
    """Resident memory of this process now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """Largest resident memory of this process since it started its program."""
    if _STATUS.is_file():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


def forget_peak() -> bool:
    """Let `peak_resident_bytes` count from now on; False where the system cannot (not Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak alone
    except OSError:
        return False
    return True


def device_peak_bytes() -> int | None:
    """Most that this process had allocated on CUDA devices; None: nothing, or no torch."""
    torch = sys.modules.get("torch")  # whoever has not imported it has nothing there
    if torch is None or not torch.cuda.is_available():
        return None
    devices = range(torch.cuda.device_count())
    return sum(int(torch.cuda.max_memory_allocated(index)) for index in devices) or None


def measured(
    work: Callable[[Order], Result],
    order: Order,
    preload: Callable[[Order], None] | None = None,
    load: Callable[[Order], None] | None = None,
) -> MeasuredWork[Result]:
    """Do a piece of work; to be called in a fresh process of its own.

    The module of `work` is imported then, and `preload` imports the libraries that the work needs:
    neither counts as the work's own memory. `load` does the work's first part: what it needs at
    most is told apart.
    """
    if preload is not None:
        preload(order)
    baseline, loaded = resident_bytes(), None
    if load is not None:
        load(order)
        loaded = peak_resident_bytes()
    result = work(order)
    memory = PeakMemory(baseline, peak_resident_bytes(), loaded, device_peak_bytes())
    return MeasuredWork(result, memory)
