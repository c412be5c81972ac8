"""Give back the memory of weight files that a runtime maps and has copied already.

OpenVINO and others map a file of weights and lay each weight out anew for their kernels. What they
have read of the file counts as resident until the mapping goes, though it could be read again: a
large part is in memory twice. Linux can be asked to let go of such pages (`MADV_PAGEOUT`, see
madvise(2), since 5.4), and reads them again if they are used. Nothing is lost by asking, even if
the mapping has gone in the meantime and its addresses are used for something else.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

LEAST_BYTES = 64 << 20  # smaller mappings are not worth the call
_EVERY_SECONDS = 0.1
_MADV_PAGEOUT = 21
_MAPS = Path("/proc/self/maps")
# Address range, private or shared, read-only, of a file: proc(5).
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r--[ps] \S+ \S+ \d+ +(/.+)")


@contextlib.contextmanager
def returned_pages() -> Iterator[None]:
    """Return pages of mapped files again and again while the body works; Linux only."""
    ended = threading.Event()
    thread = threading.Thread(target=_keep_returning, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _keep_returning(ended: threading.Event) -> None:
    while not ended.wait(_EVERY_SECONDS):
        if not return_pages():
            return


def return_pages() -> bool:
    """Ask the system once to let go of what large read-only mappings of files hold.

    Returns:
        Whether the system takes such requests.
    """
    if not sys.platform.startswith("linux"):
        return False
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    answers = [madvise(first, end - first, _MADV_PAGEOUT) == 0 for first, end in large_mappings()]
    return not answers or any(answers)


def large_mappings() -> list[tuple[int, int]]:
    """Addresses [first, end) of this process's large read-only mappings of files."""
    found = []
    for line in _MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _MAPPING.fullmatch(line)
        if match is None or ".so" in Path(match.group(3)).name:
            continue
        first, end = (int(match.group(index), 16) for index in (1, 2))
        if end - first >= LEAST_BYTES:
            found.append((first, end))
    return found
