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

from edgekd.benchmark.cache import Cache
from edgekd.benchmark.cases import TORCH, Case
from edgekd.benchmark.drawer import DrawingBatch
from edgekd.benchmark.workers import draw_all, pool_size, read_images
from edgekd.measure.environment import versions
from edgekd.processes.pool import Pool
from edgekd.progress import Progress
from edgekd.recipe import RowGeneration
from edgekd.teach.evaluation.images import Images
from edgekd.teach.evaluation.prompts import Prompt
from edgekd.teach.recipe import TeachRecipe


class PictureRequest(NamedTuple):
    """One picture: caption and index of its initial noise."""

    text: str
    noise: int


def picture_requests(prompts: Sequence[Prompt]) -> list[PictureRequest]:
    return [PictureRequest(prompt.text, prompt.noise) for prompt in prompts]


@dataclass(frozen=True)
class TeacherSampler:
    """A teacher that draws.

    Attributes:
        key: hash of the teacher's content.
        pool: made by `open_pool`; open while the sampler draws.
    """

    teacher: Path
    key: str
    recipe: TeachRecipe
    cache: Cache
    pool: Pool
    progress: Progress

    def draw(self, wanted: Sequence[PictureRequest], guidance_scale: float, label: str) -> Images:
        """Pictures uint8 [N,R,R,3], one for each request, from the cache where they are there.

        Raises:
            GateError: a picture holds NaN or infinity.
        """
        size = self.recipe.evaluate.batch_size
        batches = [list(wanted[start : start + size]) for start in range(0, len(wanted), size)]
        paths = [self._path(batch, guidance_scale) for batch in batches]
        missing = [
            self._batch(batch, guidance_scale, path)
            for batch, path in zip(batches, paths, strict=True)
            if read_images(path) is None
        ]
        draw_all(self.pool, missing, label, self.progress)
        return np.concatenate([read_images(path) for path in paths])

    def _generation(self, guidance_scale: float) -> RowGeneration:
        return RowGeneration("DDIMScheduler", self.recipe.samples.steps, guidance_scale)

    def _path(self, batch: list[PictureRequest], guidance_scale: float) -> Path:
        section, generation = self.recipe.evaluate, self._generation(guidance_scale)
        key: list[Any] = [self.key, asdict(generation), self.recipe.data.resolution]
        key += [section.seed, batch, versions()]
        return self.cache.path("pictures", key)

    def _batch(
        self, batch: list[PictureRequest], guidance_scale: float, path: Path
    ) -> DrawingBatch:
        generation = self._generation(guidance_scale)
        return DrawingBatch(
            Case("teacher", "teacher", TORCH, "fp32", self.teacher, generation=generation),
            self.pool.threads or 1,
            [request.text for request in batch],
            [request.noise for request in batch],
            self.recipe.data.resolution,
            self.recipe.evaluate.seed,
            path.absolute(),
        )


def open_pool(recipe: TeachRecipe, teacher_bytes: int) -> Pool:
    """The processes of one evaluation, a context manager; they start at the first picture.

    Args:
        teacher_bytes: size on disk of the largest teacher.
    """
    batches = -(-recipe.evaluate.samples // recipe.evaluate.batch_size)
    return Pool("draw pictures", *pool_size(recipe.evaluate.workers, batches, teacher_bytes))
