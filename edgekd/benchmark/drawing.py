"""Every row's pictures and what extractors make of them, kept on disk by what they depend on.

A killed benchmark goes on at the batch where it stopped; a teacher that has
not changed is not drawn again for the next student. No more than a batch of
pictures is in memory at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.benchmark.cases import Case
from edgekd.benchmark.extract import Networks, ShippedRows
from edgekd.benchmark.facts import folder_bytes
from edgekd.benchmark.matrix import Matrix
from edgekd.benchmark.prompts import iter_validation
from edgekd.benchmark.stored import StoredPictures
from edgekd.benchmark.workers import draw_all, needed_bytes, pool_size, read_images
from edgekd.errors import GateError
from edgekd.files import write_tensors, writing
from edgekd.metrics.caption_fit import clip_score, halves
from edgekd.metrics.metric import SCORER, Floats, Images, Pictures, Reference
from edgekd.processes.pool import Pool
from edgekd.processes.ray_pool import RayPool, Share
from edgekd.progress import Progress

Captioned = tuple[Images, Sequence[str]]
# Validation images of a batch.
_BATCH = 64


def draw_missing(matrix: Matrix, case: Case, progress: Progress) -> None:
    """Draw what is not on disk yet of a row, in processes of its own or on a cluster.

    Raises:
        GateError: a picture is not finite, or a process needs too much memory.
        ChildError: a process ends before its work.
        LostError: the cluster's head is gone.
    """
    paths = {matrix.batch_path(case, i): indices for i, indices in enumerate(matrix.batches())}
    missing = {path: indices for path, indices in paths.items() if read_images(path) is None}
    if not missing:
        return
    size, work = folder_bytes(case.path), f"draw {case.name}"
    count, threads = pool_size(matrix.suite.quality.workers, len(missing), size)
    if matrix.cluster is None:
        pool: Pool | RayPool = Pool(work, count, threads)
    else:
        pool = matrix.cluster.pool(work, Share(threads, needed_bytes(size)))
        threads = pool.share.threads
    batches = [
        matrix.batch(case, indices, threads, path.absolute()) for path, indices in missing.items()
    ]
    with pool:
        draw_all(pool, batches, f"drawing {case.name}", progress)


def drawn_pictures(matrix: Matrix, networks: Networks, case: Case) -> Pictures:
    """A row's pictures with features, scores, and the rows of all other extractors.

    Raises:
        GateError: a feature that is not finite.
    """
    paths = [matrix.batch_path(case, number) for number in range(len(matrix.batches()))]
    images = StoredPictures(paths, matrix.suite.quality.batch_size, len(matrix.prompts))
    shown = _CaptionedRow(case.name, matrix.drawing_key(case), images, matrix.prompts.captions)
    return _pictures(matrix, networks, shown)


def real_pictures(matrix: Matrix, networks: Networks) -> tuple[Pictures, Reference]:
    """The prompts' own images as a row, and all other validation images as the reference.

    Raises:
        GateError: as `drawn_pictures`.
    """
    key = [matrix.data.key, matrix.prompts.keys]
    images, captions = _real_images(matrix, key), matrix.prompts.image_captions
    real = _pictures(
        matrix, networks, _CaptionedRow("real images", ["real", key], images, captions)
    )
    shipped, others = _extract(
        matrix, networks, "reference images", ["reference", key], lambda: _reference(matrix)
    )
    quality = matrix.suite.quality
    return real, Reference(
        features=shipped.features,
        extractor=networks.shipped.extractor,
        scorer=networks.shipped.scorer,
        subsets=quality.kid_subsets,
        subset_size=quality.kid_subset_size,
        seed=quality.seed,
        extracted=others,
        extractors=networks.names,
    )


@dataclass(frozen=True)
class _CaptionedRow:
    """A row's pictures with their captions; `key` is all that they follow from."""

    name: str
    key: Any
    images: StoredPictures
    captions: tuple[str, ...]

    def batches(self) -> Iterator[Captioned]:
        for number, batch in enumerate(self.images.batches()):
            start = number * self.images.size
            yield batch, self.captions[start : start + len(batch)]


def _pictures(matrix: Matrix, networks: Networks, row: _CaptionedRow) -> Pictures:
    shipped, others = _extract(matrix, networks, row.name, row.key, row.batches)
    scores = clip_score(*halves(shipped.embeddings))
    extracted = {SCORER: shipped.embeddings, **others}
    return Pictures(row.images, row.captions, shipped.features, scores, extracted)


def _extract(
    matrix: Matrix,
    networks: Networks,
    row: str,
    key: Any,
    batches: Callable[[], Iterator[Captioned]],
) -> tuple[ShippedRows, dict[str, Floats]]:
    """What all networks make of a row, each by one pass over its pictures, once."""

    def shipped() -> dict[str, Any]:
        parts = [networks.shipped(*batch) for batch in batches()]
        features, embeddings = map(np.concatenate, zip(*parts, strict=True))
        _check_finite(row, features, embeddings)
        return {"features": features, "embeddings": embeddings}

    def other(name: str) -> dict[str, Any]:
        rows = np.concatenate([networks.others[name](*batch) for batch in batches()])
        _check_finite(row, rows)
        return {"rows": rows}

    found = matrix.cache.tensors("features", [key, networks.shipped.key], shipped)
    others = {}
    for name, network in networks.others.items():
        kept = matrix.cache.tensors("extracted", [key, name, network.key], partial(other, name))
        others[name] = kept["rows"]
    return ShippedRows(**found), others


def _check_finite(row: str, *arrays: Floats) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise GateError("every image feature must be finite", f"NaN or infinity in row `{row}`")


def _real_images(matrix: Matrix, key: Any) -> StoredPictures:
    """The prompts' own images, copied out of the data in the prompts' order."""
    count = len(matrix.prompts.keys)
    parts = [slice(start, start + _BATCH) for start in range(0, count, _BATCH)]
    paths = [matrix.cache.path("real", [key, part.start]) for part in parts]
    if any(read_images(path) is None for path in paths):
        _copy_real(matrix, paths)
    return StoredPictures(paths, _BATCH, count)


def _copy_real(matrix: Matrix, paths: Sequence[Path]) -> None:
    """Write the prompts' images, by way of a file: the data has them in another order."""
    place = {key: index for index, key in enumerate(matrix.prompts.keys)}
    shape: tuple[int, ...] = ()
    with writing(paths[0]), tempfile.TemporaryFile(dir=paths[0].parent) as file:
        for keys, images in iter_validation(matrix.data, _BATCH):
            shape = images.shape[1:]
            for key, image in zip(keys, images, strict=True):
                if key in place:
                    file.seek(place[key] * image.nbytes)
                    file.write(image.tobytes())
        file.seek(0)
        for path in paths:
            content = file.read(_BATCH * int(np.prod(shape)))
            images = np.frombuffer(content, dtype=np.uint8).reshape(-1, *shape)
            write_tensors(path, {"images": images})


def _reference(matrix: Matrix) -> Iterator[Captioned]:
    """All validation images that are no prompts, in batches."""
    from edgekd.data.dataset import PreparedSample, iter_prepared

    prompts, batch = set(matrix.prompts.keys), list[PreparedSample]()
    for sample in iter_prepared(matrix.data, "validation"):
        if sample.key not in prompts:
            batch.append(sample)
        if len(batch) == _BATCH:
            yield _captioned(batch)
            batch = []
    if batch:
        yield _captioned(batch)


def _captioned(samples: Sequence[Any]) -> Captioned:
    return np.stack([one.image for one in samples]), [one.caption for one in samples]
