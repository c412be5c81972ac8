"""Other work on the cores is seen: two processes share one core."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from edgekd.measure.waiting import BUSY
from edgekd.processes.child import Child

ENTRIES = """
import os, threading, time
from edgekd.measure.waiting import contention, read_clocks

def spin(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass

def shared(core, seconds):
    os.sched_setaffinity(0, {core})
    before = read_clocks()
    spin(seconds)
    after = read_clocks()
    return [contention(before, after, threads) for threads in (1, 2)]
"""

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="the system binds no process to a core"
)


@pytest.fixture
def core() -> int:
    return min(os.sched_getaffinity(0))


@pytest.fixture
def hog(core) -> Iterator[None]:
    """A process that computes on that core without a pause."""
    code = f"import os; os.sched_setaffinity(0, {{{core}}}); print(1, flush=True)\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield
    process.kill()
    process.communicate()


def test_a_hog_on_the_same_core_is_seen_by_both_clocks(hog, core, entries):
    with Child("share a core") as child:
        found = child.call(entries.shared, core, 0.3)
    # Half the core each: as much waiting as work, more if others wait too.
    assert all(contention > 2 * BUSY for contention in found)
