"""Draw a teacher's pictures in worker processes, and keep them by the content they depend on.

A killed evaluation goes on at the batch where it stopped, and a larger sample
draws only what is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgekd.benchmark.cache import Cache
from edgekd.benchmark.cases import TORCH, Case
from edgekd.benchmark.orders import DrawOrder
from edgekd.benchmark.workers import Request, WorkerPool, pool_size, read_images
from edgekd.measure.environment import versions
from edgekd.progress import Progress
from edgekd.recipe import RowGeneration
from edgekd.teach.evaluation.prompts import Prompt
from edgekd.teach.recipe import TeachRecipe

Images = npt.NDArray[np.uint8]


class Wish(NamedTuple):
    """One picture: caption and index of its initial noise."""

    text: str
    noise: int


def wishes(prompts: Sequence[Prompt]) -> list[Wish]:
    return [Wish(prompt.text, prompt.noise) for prompt in prompts]


@dataclass(frozen=True)
class Artist:
    """A teacher that draws.

    Attributes:
        key: hash of the teacher's content.
        pool: made by `open_pool`; open while the artist draws.
    """

    teacher: Path
    key: str
    recipe: TeachRecipe
    cache: Cache
    pool: WorkerPool
    progress: Progress

    def draw(self, wanted: Sequence[Wish], guidance_scale: float, label: str) -> Images:
        """Pictures uint8 [N,R,R,3], one for each wish, from the cache where they are there.

        Raises:
            GateError: a picture holds NaN or infinity.
        """
        size = self.recipe.evaluate.batch_size
        batches = [list(wanted[start : start + size]) for start in range(0, len(wanted), size)]
        paths = [self._path(batch, guidance_scale) for batch in batches]
        requests = [
            self._request(batch, guidance_scale, path)
            for batch, path in zip(batches, paths, strict=True)
            if not path.is_file()
        ]
        if requests:
            self._ask(requests, label)
        return np.concatenate([read_images(path) for path in paths])

    def _generation(self, guidance_scale: float) -> RowGeneration:
        return RowGeneration("DDIMScheduler", self.recipe.samples.steps, guidance_scale)

    def _path(self, batch: list[Wish], guidance_scale: float) -> Path:
        section, generation = self.recipe.evaluate, self._generation(guidance_scale)
        key: list[Any] = [self.key, asdict(generation), self.recipe.data.resolution]
        key += [section.seed, batch, versions()]
        return self.cache.path("pictures", key, ".safetensors")

    def _request(self, batch: list[Wish], guidance_scale: float, path: Path) -> Request:
        generation = self._generation(guidance_scale)
        return DrawOrder(
            case=Case("teacher", "teacher", TORCH, "fp32", self.teacher, generation=generation),
            threads=self.pool.threads,
            captions=[wish.text for wish in batch],
            indices=[wish.noise for wish in batch],
            resolution=self.recipe.data.resolution,
            seed=self.recipe.evaluate.seed,
            out=path.absolute(),
        ).model_dump(mode="json")

    def _ask(self, requests: list[Request], label: str) -> None:
        total = sum(len(request["indices"]) for request in requests)
        with self.progress.track(label, total) as advance:
            self.pool.ask_all(requests, lambda request: advance(len(request["indices"])))


def open_pool(recipe: TeachRecipe, teacher_bytes: int) -> WorkerPool:
    """The workers of one evaluation, a context manager; they start at the first picture.

    Args:
        teacher_bytes: size on disk of the largest teacher.
    """
    batches = -(-recipe.evaluate.samples // recipe.evaluate.batch_size)
    return WorkerPool(*pool_size(recipe.evaluate.workers, batches, teacher_bytes))
