from collections.abc import Iterator

import numpy as np
import pytest

from edgekd.measure.memory import measured, peak_resident_bytes
from edgekd.processes.child import Child

MIB = 1024**2


ENTRIES = """
import numpy as np

def allocate(mib):
    array = np.ones(mib * 1024 * 128)
    del array
    return "done"

def allocate_half(mib):
    allocate(mib // 2)

def preload(mib):
    global ballast
    ballast = np.ones(mib * 1024 * 128)
"""


@pytest.fixture
def child() -> Iterator[Child]:
    with Child("allocate") as child:
        yield child


def test_a_known_allocation_is_measured_after_it_was_freed(child, entries):
    found = child.call(measured, entries.allocate, 200, None, entries.allocate_half)
    assert found.result == "done"
    # 200 MiB are touched. The kernel's counters lag by some pages per core, hence 1 MiB less;
    # the interpreter itself adds a little.
    assert 199 * MIB <= found.memory.above_baseline_bytes < 220 * MIB
    assert 99 * MIB <= found.memory.loaded_bytes - found.memory.baseline_bytes < 120 * MIB
    assert found.memory.device_peak_bytes is None
    assert found.memory.to_dict()["above_baseline_bytes"] == found.memory.above_baseline_bytes


def test_a_fresh_process_does_not_inherit_the_parents_peak(child, entries):
    ballast = np.ones(500 * MIB // 8)
    assert peak_resident_bytes() > 500 * MIB
    assert child.call(measured, entries.allocate, 1).memory.peak_bytes < 200 * MIB
    assert ballast[0] == 1


def test_what_is_loaded_before_is_no_part_of_the_work(child, entries):
    memory = child.call(measured, entries.allocate, 100, entries.preload).memory
    assert memory.baseline_bytes > 100 * MIB
    assert 99 * MIB <= memory.above_baseline_bytes < 120 * MIB
