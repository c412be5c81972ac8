"""Whether other work held the cores: how long this process's threads waited for one.

On one thread, wall-clock minus processor time is that wait. On several it is the run delay of all
threads, which Linux counts in nanoseconds (`/proc/PID/task/TID/schedstat`: Documentation/scheduler/
sched-stats.rst), and the time that a hypervisor gave to other guests ("steal", proc(5)). The load
average says neither: it is a mean over a minute, and knows no process.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

# Waited over processor time above which times are not to be trusted: below it, what short and long
# calls wait differs by less than what their ratio is trusted to.
BUSY = 0.1
_PROC = Path("/proc")


@dataclass(frozen=True)
class Clocks:
    """Seconds that only grow; differences of two readings say something.

    Attributes:
        wall: monotonic clock.
        processor: of all threads of this process.
        waiting: of all threads, ready to run and without a core; None: the system does not count
            it.
    """

    wall: float
    processor: float
    waiting: float | None


def read_clocks(proc: Path = _PROC) -> Clocks:
    """All clocks of this process, now."""
    waiting = _run_delay(proc / "self" / "task")
    stolen = _stolen(proc / "stat")
    total = None if waiting is None else waiting + (stolen or 0.0)
    return Clocks(time.monotonic(), time.process_time(), total)


def contention(before: Clocks, after: Clocks, threads: int) -> float | None:
    """Time waited for a core over processor time used, between two readings.

    Returns:
        0 on a quiet machine; 1 where a thread waited as long as it ran; None: cannot be told.
    """
    used = after.processor - before.processor
    if threads == 1:
        waited = after.wall - before.wall - used
    elif before.waiting is None or after.waiting is None:
        return None
    else:
        waited = after.waiting - before.waiting  # a thread that ended takes its own along
    return max(0.0, waited) / max(used, 1e-9)


def _run_delay(tasks: Path) -> float | None:
    """Seconds that the threads of a process have waited; None: not counted here."""
    total = None
    for schedstat in tasks.glob("*/schedstat"):
        try:
            fields = schedstat.read_text().split()
        except OSError:  # the thread has ended
            continue
        total = (total or 0.0) + int(fields[1]) / 1e9
    return total


def _stolen(stat: Path) -> float | None:
    """Seconds that other guests of the hypervisor took from this machine; None: not counted."""
    try:
        fields = stat.read_text().splitlines()[0].split()
    except OSError:
        return None
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else None
