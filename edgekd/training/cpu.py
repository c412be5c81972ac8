"""How training uses a CPU: its threads and its memory."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

from edgekd.measure.environment import cores
from edgekd.training.sharding import launched

# Numbers of malloc.h; glibc refuses a larger mmap threshold.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MMAP_THRESHOLD_BYTES = 32 * 2**20
_NEVER_TRIM_BYTES = 2**31 - 1
# What glibc's own rule comes to in a process that has freed blocks of every size.
_TRIM_THRESHOLD_BYTES = 2 * _MMAP_THRESHOLD_BYTES


@contextlib.contextmanager
def all_cores() -> Iterator[None]:
    """Work alone, with all cores: launchers of several processes leave one thread to each."""
    import torch

    before = torch.get_num_threads()
    if launched() > 1 and before == 1:
        torch.set_num_threads(cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def training_cpu(threads: int) -> Iterator[None]:
    """Train with this many torch threads (0: as many as now), and with `kept_heap`."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with kept_heap():
            yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def kept_heap() -> Iterator[None]:
    """Keep what is freed in the process for a while; at the end it goes back to the system.

    Every step of training allocates the same buffers. glibc returns them to the system in
    between, and each page of the next step has to be made and zeroed again: about a twentieth of
    the time of a small U-Net. Other C libraries have no such settings and are left alone.
    """
    library = ctypes.CDLL(None)
    mallopt = getattr(library, "mallopt", None)
    trim = getattr(library, "malloc_trim", None)
    if mallopt is None or trim is None:
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM_BYTES)
    try:
        yield
    finally:
        mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)
        trim(ctypes.c_size_t(0))
