"""Peak memory of a piece of work in a process of its own.

Measured in the process that runs the pipeline, the figure would hold whatever
that process did before. So the work is named (`package.module:function`), a
fresh interpreter imports the module, notes its resident memory (the
*baseline*: Python and libraries), does the work and reports its peak.

The peak is the kernel's own high-water mark, not a sample now and then:
`VmHWM` on Linux, because `ru_maxrss` survives `exec` there and would start at
the parent's peak; `peak_wset` on Windows; `ru_maxrss` elsewhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULT_PREFIX = "edgekd-memory:"
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class PeakMemory:
    """Resident memory of one fresh process, in bytes."""

    baseline_bytes: int
    peak_bytes: int

    @property
    def above_baseline_bytes(self) -> int:
        """What the work itself needed on top of Python and its libraries."""
        return self.peak_bytes - self.baseline_bytes

    def to_dict(self) -> dict[str, int]:
        return {**asdict(self), "above_baseline_bytes": self.above_baseline_bytes}


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


def start_peak_memory(
    entry: str, payload: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start the fresh process; `finish_peak_memory` waits for its figures.

    Args:
        entry: `package.module:function`; called with the payload.
        payload: JSON-able argument.
        environment: variables set on top of this process's own.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "edgekd.measure.worker", entry, json.dumps(payload, default=str)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **(environment or {})},
    )


def finish_peak_memory(process: subprocess.Popen[str]) -> PeakMemory:
    """Wait for a started measurement.

    Raises:
        RuntimeError: the process failed; the message holds the end of its stderr.
    """
    return finish_measured(process)[0]


def finish_measured(process: subprocess.Popen[str]) -> tuple[PeakMemory, Any]:
    """Wait for a started measurement; its figures, and what the work returned (JSON-able).

    Raises:
        RuntimeError: as `finish_peak_memory`.
    """
    try:
        output, errors = process.communicate()
    except BaseException:
        process.kill()
        process.wait()
        raise
    for line in reversed(output.splitlines()):
        if process.returncode == 0 and line.startswith(RESULT_PREFIX):
            figures = json.loads(line.removeprefix(RESULT_PREFIX))
            memory = PeakMemory(figures["baseline_bytes"], figures["peak_bytes"])
            return memory, figures["result"]
    raise RuntimeError(
        f"the memory measurement ended with code {process.returncode}: {errors[-2000:]}"
    )


def peak_memory(
    entry: str, payload: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> PeakMemory:
    """Peak resident memory of `entry(payload)` in a fresh process.

    Raises:
        RuntimeError: the process failed.
    """
    return finish_peak_memory(start_peak_memory(entry, payload, environment))
