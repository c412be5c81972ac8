"""How many processes read a stream of images, and those processes."""

from __future__ import annotations

import contextlib
from concurrent.futures import Executor

from edgekd.measure.environment import cores
from edgekd.processes.pool import Pool

# Starting a process costs about as much as this many images.
IMAGES_PER_PROCESS = 500


def worker_count(requested: int, images: int | None) -> int:
    """Processes to use: as requested; for 0 one per core that has enough to do."""
    if requested:
        return requested
    return cores() if images is None else max(1, min(cores(), images // IMAGES_PER_PROCESS))


def worker_pool(workers: int) -> contextlib.AbstractContextManager[Executor | None]:
    """Fresh processes, or None for one worker: the work is then done in this process."""
    return Pool("read images", workers) if workers > 1 else contextlib.nullcontext()
