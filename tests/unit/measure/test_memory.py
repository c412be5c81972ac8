from pathlib import Path

import numpy as np
import pytest

from edgekd.measure.memory import (
    finish_measured,
    forget_peak,
    peak_memory,
    peak_resident_bytes,
    start_peak_memory,
)

MIB = 1024**2
ENTRIES = """
import numpy as np

def allocate(payload):
    array = np.ones(payload["mib"] * 1024 * 128)
    del array

def answer(payload):
    print("noise on stdout")
    return {"sum": sum(payload["values"])}

def fail(payload):
    raise ValueError("entry broke")
"""


@pytest.fixture
def entries(tmp_path: Path) -> dict[str, str]:
    """A module with entries that only the fresh process imports."""
    (tmp_path / "memory_entries.py").write_text(ENTRIES)
    return {"PYTHONPATH": str(tmp_path)}


def test_a_known_allocation_is_measured_after_it_was_freed(entries: dict[str, str]) -> None:
    memory = peak_memory("memory_entries:allocate", {"mib": 200}, entries)
    # 200 MiB are touched. The kernel's counters lag by some pages per core, hence 1 MiB less;
    # the interpreter itself adds a little.
    assert 199 * MIB <= memory.above_baseline_bytes < 220 * MIB
    assert memory.peak_bytes == memory.baseline_bytes + memory.above_baseline_bytes


def test_a_fresh_process_does_not_inherit_the_parents_peak(entries: dict[str, str]) -> None:
    ballast = np.ones(500 * MIB // 8)
    assert peak_resident_bytes() > 500 * MIB
    memory = peak_memory("memory_entries:allocate", {"mib": 1}, entries)
    assert memory.peak_bytes < 200 * MIB
    assert ballast[0] == 1


def test_a_failed_measurement_raises_with_its_reason(entries: dict[str, str]) -> None:
    with pytest.raises(RuntimeError, match="entry broke"):
        peak_memory("memory_entries:fail", {}, entries)


def test_what_the_work_returns_comes_back(entries: dict[str, str]) -> None:
    process = start_peak_memory("memory_entries:answer", {"values": [1, 2]}, entries)
    memory, result = finish_measured(process)
    assert result == {"sum": 3}
    assert memory.peak_bytes > 0


def test_a_forgotten_peak_is_counted_anew() -> None:
    ballast = np.ones(300 * MIB // 8)
    before = peak_resident_bytes()
    del ballast
    if forget_peak():
        assert peak_resident_bytes() < before - 200 * MIB
    else:  # only Linux can
        assert peak_resident_bytes() >= before
