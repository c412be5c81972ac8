"""What the processes of a benchmark do: draw, time, and be measured.

Two processes of one thread draw more than one process of two threads: small
U-Nets have too little work per operator to share. And a fresh process times
nothing that training left behind in this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from edgekd.benchmark.draw import open_drawer
from edgekd.benchmark.drawer import Drawer, DrawingBatch
from edgekd.files import read_tensors, write_tensors
from edgekd.measure.memory import PeakMemory, measured
from edgekd.processes.pool import each
from edgekd.progress import Progress
from edgekd.recipe import RowGeneration

# The last case of this process stays loaded: batches sorted by case load each once.
_loaded: dict[tuple[Path, RowGeneration, int], Drawer] = {}


def _drawer(batch: DrawingBatch) -> Drawer:
    loaded = (batch.case.path, batch.generation, batch.threads)
    if loaded not in _loaded:
        _loaded.clear()  # free the old one before loading
        _loaded[loaded] = open_drawer(batch.case, batch.threads)
    return _loaded[loaded]


def load_batch(batch: DrawingBatch) -> None:
    """Load all that a batch is drawn with."""
    _drawer(batch).load()


def draw_batch(batch: DrawingBatch) -> None:
    """Draw one batch and write it."""
    images = _drawer(batch).draw(batch)
    if batch.out is not None:
        write_tensors(batch.out, {"images": images})


def weigh_batch(batch: DrawingBatch) -> PeakMemory:
    """Peak memory of loading and drawing a batch in torch; to be called in a fresh process."""
    return measured(draw_batch, batch, _import_libraries, load_batch).memory


def _import_libraries(batch: DrawingBatch) -> None:
    from edgekd.benchmark.torch_drawer import import_libraries

    import_libraries()


def draw_all(
    pool: Executor, batches: Sequence[DrawingBatch], label: str, progress: Progress
) -> None:
    """Draw all batches, shared among the processes of a pool.

    Raises:
        the first error of any process; batches not yet begun are dropped.
    """
    if not batches:
        return
    with progress.track(label, sum(len(batch.indices) for batch in batches)) as advance:
        for batch, _ in each(pool, draw_batch, batches):
            advance(len(batch.indices))


def pool_size(asked: int, batches: int, largest_bytes: int) -> tuple[int, int]:
    """Processes that draw, and threads of each.

    Args:
        asked: the suite's `workers`; 0: one per core, as far as memory reaches.
        batches: units of work.
        largest_bytes: size on disk of the largest pipeline.
    """
    import psutil

    from edgekd.measure.environment import cores

    fits = max(1, int(psutil.virtual_memory().available * 0.8 // needed_bytes(largest_bytes)))
    count = max(1, min(asked or min(cores(), fits), batches))
    return count, max(1, cores() // count)


def needed_bytes(pipeline_bytes: int) -> int:
    """Memory to draw with a pipeline of this size on disk: float16 weights double when loaded, and
    activations are taken to need as much again."""
    return 4 * pipeline_bytes + 2**30


def read_images(path: Path) -> Any:
    """A batch written by a worker, uint8 [B,H,W,3]; None: it is missing or damaged."""
    found = read_tensors(path)
    return None if found is None else found["images"]
