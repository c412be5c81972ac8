"""Every row's pictures and their features, kept on disk by the content they depend on.

A killed benchmark goes on at the batch where it stopped; a teacher that has
not changed is not drawn again for the next student.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekd.benchmark.cases import Case
from edgekd.benchmark.extract import Extractors
from edgekd.benchmark.facts import folder_bytes
from edgekd.benchmark.matrix import Matrix
from edgekd.benchmark.prompts import iter_validation
from edgekd.benchmark.workers import draw_all, pool_size, read_images
from edgekd.errors import GateError
from edgekd.metrics.metric import Floats, Pictures
from edgekd.processes.pool import Pool
from edgekd.progress import Progress


def draw_missing(matrix: Matrix, case: Case, progress: Progress) -> None:
    """Draw what is not on disk yet of a row, in processes of its own.

    Raises:
        GateError: a picture is not finite, or a process needs too much memory.
        ChildError: a process ends before its work.
    """
    paths = {matrix.batch_path(case, i): indices for i, indices in enumerate(matrix.batches())}
    missing = {path: indices for path, indices in paths.items() if read_images(path) is None}
    if not missing:
        return
    count, threads = pool_size(matrix.suite.quality.workers, len(missing), folder_bytes(case.path))
    batches = [
        matrix.batch(case, indices, threads, path.absolute()) for path, indices in missing.items()
    ]
    with Pool(f"draw {case.name}", count, threads) as pool:
        draw_all(pool, batches, f"drawing {case.name}", progress)


def _check_features(row: str, features: Floats) -> None:
    if not np.isfinite(features).all():
        raise GateError("every image feature must be finite", f"NaN or infinity in row `{row}`")


def drawn_pictures(matrix: Matrix, extractors: Extractors, case: Case) -> Pictures:
    """A row's pictures with features and scores."""
    paths = [matrix.batch_path(case, number) for number in range(len(matrix.batches()))]
    images = np.concatenate([read_images(path) for path in paths])
    captions = matrix.prompts.captions

    def extract() -> dict[str, Any]:
        features = extractors.features(images)
        _check_features(case.name, features)
        return {"features": features, "scores": extractors.scores(images, captions)}

    key = [matrix.drawing_key(case), extractors.key]
    tensors = matrix.cache.tensors("features", key, extract)
    return Pictures(images, captions, tensors["features"], tensors["scores"])


def real_pictures(matrix: Matrix, extractors: Extractors) -> tuple[Pictures, Floats]:
    """The prompts' own images as a row, and the features of all other validation images."""
    key = [matrix.data.key, matrix.prompts.keys, extractors.key]
    found = matrix.cache.tensors("real", key, lambda: _real_tensors(matrix, extractors))
    captions = matrix.prompts.different
    real = Pictures(found["images"], captions, found["features"], found["scores"])
    return real, found["reference"]


def _real_tensors(matrix: Matrix, extractors: Extractors) -> dict[str, Any]:
    place = {key: index for index, key in enumerate(matrix.prompts.keys)}
    images: dict[int, Any] = {}
    features: dict[int, Any] = {}
    reference = []
    for keys, batch in iter_validation(matrix.data, batch_size=64):
        for key, image, row in zip(keys, batch, extractors.features(batch), strict=True):
            if key in place:
                images[place[key]], features[place[key]] = image, row
            else:
                reference.append(row)
    ordered = np.stack([images[index] for index in range(len(place))])
    tensors = {
        "images": ordered,
        "features": np.stack([features[index] for index in range(len(place))]),
        "scores": extractors.scores(ordered, matrix.prompts.different),
        "reference": np.stack(reference),
    }
    _check_features("real images", tensors["features"])
    _check_features("reference images", tensors["reference"])
    return tensors
