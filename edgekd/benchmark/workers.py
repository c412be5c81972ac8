"""What the processes of a benchmark do: draw, time, and be measured.

Two processes of one thread draw more than one process of two threads: small
U-Nets have too little work per operator to share. And a fresh process times
nothing that training left behind in this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.benchmark.cache import write_tensors
from edgekd.benchmark.generate import draw, set_scheduler
from edgekd.benchmark.speed import measure_speed
from edgekd.benchmark.subjects import Subject, open_pipeline
from edgekd.benchmark.suite import GenerationSection, SpeedSection
from edgekd.processes.pool import Pool
from edgekd.progress import Progress


@dataclass(frozen=True)
class Batch:
    """Pictures of one subject to draw together.

    Attributes:
        threads: of the subject's runtime.
        indices: one for each caption: of its noise.
        out: file for the pictures; None: they are drawn to be measured.
    """

    subject: Subject
    threads: int
    generation: GenerationSection
    captions: Sequence[str]
    indices: Sequence[int]
    resolution: int
    seed: int
    out: Path | None = None


@dataclass(frozen=True)
class Timing:
    """Subjects to time in turns; see `measure_speed`."""

    subjects: Sequence[Subject]
    caption: str
    generation: GenerationSection
    speed: SpeedSection
    resolution: int


# The last subject of this process stays loaded: batches sorted by subject load each once.
_loaded: dict[tuple[Path, int], Any] = {}


def draw_batch(batch: Batch) -> None:
    """Draw one batch and write it."""
    loaded = (batch.subject.path, batch.threads)
    if loaded not in _loaded:
        _loaded.clear()  # free the old one before loading
        _loaded[loaded] = open_pipeline(batch.subject, batch.threads)
    pipeline, generation = _loaded[loaded], batch.generation
    set_scheduler(pipeline, generation.scheduler)
    images = draw(pipeline, batch.captions, batch.indices, generation, batch.resolution, batch.seed)
    if batch.out is not None:
        write_tensors(batch.out, {"images": images})


def time_subjects(timing: Timing) -> dict[str, Any]:
    """Time all subjects; see `measure_speed`."""
    _loaded.clear()
    threads = timing.speed.threads
    return measure_speed(
        {subject.name: open_pipeline(subject, threads) for subject in timing.subjects},
        timing.caption,
        timing.generation,
        timing.speed,
        timing.resolution,
    )


def draw_all(pool: Pool, batches: Sequence[Batch], label: str, progress: Progress) -> None:
    """Draw all batches, shared among the processes of a pool.

    Raises:
        the first error of any process; batches not yet begun are dropped.
    """
    if not batches:
        return
    with progress.track(label, sum(len(batch.indices) for batch in batches)) as advance:
        for batch, _ in pool.each(draw_batch, batches):
            advance(len(batch.indices))


def pool_size(asked: int, batches: int, largest_bytes: int) -> tuple[int, int]:
    """Processes that draw, and threads of each.

    Args:
        asked: the suite's `workers`; 0: one per core, as far as memory reaches.
        batches: units of work.
        largest_bytes: size on disk of the largest subject; float16 weights double when loaded,
            and activations are taken to need as much again.
    """
    import psutil

    from edgekd.measure.environment import cores

    fits = max(1, int(psutil.virtual_memory().available * 0.8 // (4 * largest_bytes + 2**30)))
    count = max(1, min(asked or min(cores(), fits), batches))
    return count, max(1, cores() // count)


def read_images(path: Path) -> Any:
    """A batch written by a worker: uint8 [B,H,W,3]."""
    from safetensors.numpy import load_file

    return load_file(path)["images"]
