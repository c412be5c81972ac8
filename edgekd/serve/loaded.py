"""The models that a worker holds, within its memory."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from edgekd.runtime import Pipeline
from edgekd.runtime.folder import ExportedFolder, read_folder
from edgekd.serve.logs import event

# Prompts of a model whose embeddings are kept: people draw one with many seeds. At 77 tokens they
# are 7 MiB of Stable Diffusion 1.5 and 20 MiB of SDXL.
PROMPTS = 32


def resident_bytes() -> int:
    """What this process has in memory."""
    import psutil

    return int(psutil.Process().memory_info().rss)


class LoadedModels:
    """Pipelines by name, opened when first asked for; the least recently used leave.

    A model's need is what this process grew by when it last drew with it, and before that the size
    of its files. The one that is drawn with stays, even when it alone is above the limit.
    """

    def __init__(
        self,
        paths: dict[str, Path],
        threads: int,
        limit: int | None,
        resident: Callable[[], int] = resident_bytes,
    ) -> None:
        self._paths = paths
        self._threads = threads
        self._limit = limit
        self._resident = resident
        self._pipelines: OrderedDict[str, Pipeline] = OrderedDict()
        self._needs = {name: model_bytes(path) for name, path in paths.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Least recently used first."""
        return tuple(self._pipelines)

    @contextmanager
    def using(self, name: str, sampler: str | None = None) -> Iterator[Pipeline]:
        """A pipeline to draw with; other models leave before and after where memory is short.

        Raises:
            InputError: the folder cannot be opened any more.
        """
        is_new = name not in self._pipelines
        before = 0
        if is_new:
            self._make_room(self._needs[name])
            before = self._resident()
            self._pipelines[name] = Pipeline.open(
                self._paths[name], self._threads, prompt_cache=PROMPTS
            )
        self._pipelines.move_to_end(name)
        pipeline = self._pipelines[name]
        if sampler is not None:
            pipeline = replace(pipeline, folder=_with_sampler(pipeline.folder.path, sampler))
        try:
            yield pipeline
        finally:
            del pipeline
            if is_new:
                self._needs[name] = max(self._needs[name], self._resident() - before)
                event("model loaded", model=name, memory_bytes=self._resident())
            self._make_room(0, keep=1)

    def _make_room(self, need: int, keep: int = 0) -> None:
        while (
            self._limit is not None
            and len(self._pipelines) > keep
            and self._resident() + need > self._limit
        ):
            name, pipeline = self._pipelines.popitem(last=False)
            del pipeline
            gc.collect()
            _return_freed_memory()
            event("model unloaded", model=name, memory_bytes=self._resident())


@lru_cache(maxsize=64)
def _with_sampler(path: Path, sampler: str) -> ExportedFolder:
    return read_folder(path, sampler)


def model_bytes(path: Path) -> int:
    """Size of an exported folder's files."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _return_freed_memory() -> None:
    """glibc keeps freed memory for later, which the system then counts as this process's."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
