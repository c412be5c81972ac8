import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from edgekd.export import pages

# Touches a mapped file while pages are returned, or not; prints what of it is resident at last.
# The third argument: bytes that it is waited for to sink to.
SCRIPT = """
import contextlib, mmap, sys, time
from edgekd.export.pages import returned_pages

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssFile"))

before = resident()
how = returned_pages() if sys.argv[2] == "returned" else contextlib.nullcontext()
with open(sys.argv[1], "rb") as file, how:
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE)
    assert sum(mapped[::4096]) == 7 * len(mapped) // 4096
    until = time.monotonic() + 60
    while resident() - before > int(sys.argv[3]) and time.monotonic() < until:
        time.sleep(0.05)
    print(resident() - before)
    assert sum(mapped[::4096]) == 7 * len(mapped) // 4096
"""


@pytest.fixture(scope="module")
def large_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.bin"
    path.write_bytes(b"\7" * (80 << 20))
    return path


def test_what_was_read_of_a_mapped_file_does_not_stay_resident(large_file, run_python):
    if not sys.platform.startswith("linux"):
        with pages.returned_pages():
            assert not pages.return_pages()
        return

    def resident(how: str, at_most: int) -> int:
        return int(run_python(SCRIPT, large_file, how, at_most).stdout)

    assert resident("kept", 1 << 30) > 75 << 20
    how = subprocess.run(["stat", "-f", "-c", "%T", large_file], capture_output=True, text=True)
    # The pages of a tmpfs are the file: there is nowhere to let them go.
    goal = 1 << 30 if how.stdout.strip() == "tmpfs" else 10 << 20
    assert resident("returned", goal) <= goal


def test_only_large_read_only_mappings_of_files_are_meant(large_file, monkeypatch):
    if not sys.platform.startswith("linux"):
        return
    with large_file.open("rb") as file:
        writable = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE)
        assert pages.large_mappings() == []
        read_only = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
        ((first, end),) = pages.large_mappings()
        assert end - first == len(read_only)
        monkeypatch.setattr(pages, "LEAST_BYTES", len(read_only) + 1)
        assert pages.large_mappings() == []
        read_only.close()
        writable.close()
