"""Every subject's pictures and their features, kept on disk by the content they depend on.

A killed benchmark goes on at the batch where it stopped; a teacher that has
not changed is not drawn again for the next student.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.artifacts import PreparedData, hash_value
from edgekd.benchmark.cache import Cache
from edgekd.benchmark.prompts import Prompts, iter_validation
from edgekd.benchmark.quality import Floats, Judge, Pictures
from edgekd.benchmark.subjects import Subject, folder_bytes
from edgekd.benchmark.suite import Suite
from edgekd.benchmark.workers import Batch, draw_all, read_images
from edgekd.errors import GateError
from edgekd.measure.environment import versions
from edgekd.processes.pool import Pool
from edgekd.progress import Progress


@dataclass(frozen=True)
class Bench:
    """What all parts of one benchmark share.

    Attributes:
        keys: subject name -> hash of what decides its pictures.
        cache: everything already measured.
    """

    suite: Suite
    subjects: tuple[Subject, ...]
    keys: dict[str, str]
    data: PreparedData
    prompts: Prompts
    cache: Cache

    @property
    def runnable(self) -> tuple[Subject, ...]:
        return tuple(subject for subject in self.subjects if not subject.not_executed)

    @property
    def timed(self) -> tuple[Subject, ...]:
        """Rows whose times and memory are those of their runtime."""
        return tuple(subject for subject in self.runnable if not subject.evaluated)

    @property
    def largest_bytes(self) -> int:
        return max(folder_bytes(subject.path) for subject in self.runnable)

    def drawing_key(self, subject: Subject) -> str:
        """Hash of all that decides the pictures of a subject."""
        quality = self.suite.quality
        return hash_value(
            [
                self.keys[subject.name],
                self.suite.generation.model_dump(),
                [quality.seed, quality.batch_size],
                [self.data.key, self.data.resolution, self.prompts.captions],
                versions(),
            ]
        )

    def batches(self) -> list[range]:
        """Prompt indices of each batch: the same however many workers draw."""
        size, count = self.suite.quality.batch_size, len(self.prompts)
        return [range(start, min(start + size, count)) for start in range(0, count, size)]

    def batch_path(self, subject: Subject, number: int) -> Path:
        folder = self.cache.path("pictures", self.drawing_key(subject))
        return folder / f"batch-{number:05d}.safetensors"

    def batch(
        self, subject: Subject, indices: Sequence[int], threads: int, out: Path | None = None
    ) -> Batch:
        """The order to draw these prompts."""
        return Batch(
            subject,
            threads,
            self.suite.generation,
            [self.prompts.captions[index] for index in indices],
            list(indices),
            self.data.resolution,
            self.suite.quality.seed,
            out,
        )


def draw_missing(bench: Bench, pool: Pool, progress: Progress) -> None:
    """Draw what is not on disk yet, sorted by subject."""
    missing = []
    for subject in bench.runnable:
        for number, indices in enumerate(bench.batches()):
            path = bench.batch_path(subject, number)
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                missing.append(bench.batch(subject, indices, pool.threads or 1, path.absolute()))
    draw_all(pool, missing, "drawing pictures", progress)


def _check_features(row: str, features: Floats) -> None:
    if not np.isfinite(features).all():
        raise GateError("every image feature must be finite", f"NaN or infinity in row `{row}`")


def judged(bench: Bench, judge: Judge, subject: Subject) -> Pictures:
    """A subject's pictures with features and scores."""
    paths = [bench.batch_path(subject, number) for number in range(len(bench.batches()))]
    images = np.concatenate([read_images(path) for path in paths])

    def judge_images() -> dict[str, Any]:
        features = judge.features(images)
        _check_features(subject.name, features)
        return {"features": features, "scores": judge.scores(images, bench.prompts.captions)}

    key = [bench.drawing_key(subject), judge.key]
    tensors = bench.cache.tensors("features", key, judge_images)
    return Pictures(images, tensors["features"], tensors["scores"])


def judged_real(bench: Bench, judge: Judge) -> tuple[Pictures, Floats]:
    """The prompts' own images as a row, and the features of all other validation images."""
    key = [bench.data.key, bench.prompts.keys, judge.key]
    tensors = bench.cache.tensors("real", key, lambda: _real_tensors(bench, judge))
    real = Pictures(tensors["images"], tensors["features"], tensors["scores"])
    return real, tensors["reference"]


def _real_tensors(bench: Bench, judge: Judge) -> dict[str, Any]:
    place = {key: index for index, key in enumerate(bench.prompts.keys)}
    images: dict[int, Any] = {}
    features: dict[int, Any] = {}
    reference = []
    for keys, batch in iter_validation(bench.data, batch_size=64):
        for key, image, row in zip(keys, batch, judge.features(batch), strict=True):
            if key in place:
                images[place[key]], features[place[key]] = image, row
            else:
                reference.append(row)
    ordered = np.stack([images[index] for index in range(len(place))])
    tensors = {
        "images": ordered,
        "features": np.stack([features[index] for index in range(len(place))]),
        "scores": judge.scores(ordered, bench.prompts.captions),
        "reference": np.stack(reference),
    }
    _check_features("real images", tensors["features"])
    _check_features("reference images", tensors["reference"])
    return tensors
