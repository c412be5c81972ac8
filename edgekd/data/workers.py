"""How many processes read a stream of images, and those processes."""

from __future__ import annotations

import contextlib
from concurrent.futures import Executor

from edgekd.measure.environment import cores
from edgekd.processes.pool import Pool
from edgekd.processes.ray_pool import Cluster

# Starting a process costs about as much as this many images.
IMAGES_PER_PROCESS = 500


def worker_count(requested: int, images: int | None, cluster: Cluster | None = None) -> int:
    """Processes to use: a cluster's cores, or as requested; for 0 one per core that has enough to
    do."""
    if cluster is not None:
        return cluster.cores
    if requested:
        return requested
    return cores() if images is None else max(1, min(cores(), images // IMAGES_PER_PROCESS))


def worker_pool(
    workers: int, cluster: Cluster | None = None
) -> contextlib.AbstractContextManager[Executor | None]:
    """A cluster's workers, or fresh processes, or None for one worker: the work is then done in
    this process."""
    if cluster is not None:
        return cluster.pool("read images")
    return Pool("read images", workers) if workers > 1 else contextlib.nullcontext()
