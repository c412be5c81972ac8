"""Record what a teacher makes of prepared data, so that training need not ask again.

The files and their dtypes are described in `edgekd.data.cache`, which reads them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from edgekd.artifacts import PreparedData, TeacherCache
from edgekd.data.cache import CachedLatents
from edgekd.data.dataset import PreparedSample, iter_shard, list_shards
from edgekd.data.images import to_tensor
from edgekd.diffusion.encode import TextEmbeddings, encode_images, encode_prompts
from edgekd.diffusion.load import Teacher, load_teacher
from edgekd.diffusion.validate import TeacherInfo
from edgekd.diffusion.weights import save_tensors
from edgekd.errors import InputError
from edgekd.file_record import finish
from edgekd.files import code_key, hash_value
from edgekd.folders import finished, resumable_folder
from edgekd.parts import note_part
from edgekd.processes.pool import batch_threads, each, ordered_map
from edgekd.processes.ray_pool import Cluster, Share
from edgekd.progress import Advance, Progress

__all__ = ["CachedLatents", "build_cache", "build_cache_on", "cache_key", "find_cache"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_BATCH = 16
# Of images at a time, in each thread: Stable Diffusion's encoder holds 0.6 GB of one of 512 x 512.
_BATCH_PIXELS = 16 * 64 * 64
# A GPU has one batch at a time.
_BATCH_PIXELS_GPU = 4 * 512 * 512
# Beside torch and a batch: float16 weights double when they are loaded.
_NEEDED_TIMES, _NEEDED_BESIDES = 2, 2**30
ENCODERS = ("vae", "text_encoder", "text_encoder_2")


def cache_key(data: PreparedData, info: TeacherInfo, dtype: torch.dtype = torch.float32) -> str:
    """Hash of all that the cache's content follows from."""
    return hash_value([code_key(), data.key, info.key, str(dtype)])


def find_cache(
    data: PreparedData, info: TeacherInfo, out: Path, dtype: torch.dtype = torch.float32
) -> TeacherCache | None:
    """The finished cache in `out`, if there is one for this data and teacher."""
    key = cache_key(data, info, dtype)
    return TeacherCache(out, key, info.key) if finished(out, key) else None


def build_cache(
    data: PreparedData, teacher: Teacher, out: Path, progress: Progress, batch_size: int = _BATCH
) -> TeacherCache:
    """Encode all images and captions, shard by shard; finished shards are never made again.

    Args:
        batch_size: captions, and small images, encoded at a time. On a CPU small batches stay in
            its caches.

    Raises:
        InputError: the teacher's outputs are not finite, or the disk is full or read-only.
    """

    def encode(shards: Sequence[Path], partial: Path, advance: Advance) -> Iterator[Path]:
        for shard in shards:
            encode_shard(shard, partial, teacher, advance, batch_size)
            yield shard

    return _build(data, teacher.info, teacher.dtype, out, (encode, progress))


def build_cache_on(
    cluster: Cluster, data: PreparedData, info: TeacherInfo, out: Path, progress: Progress
) -> TeacherCache:
    """As `build_cache`, by a cluster's workers, a shard each; they write the very same files as a
    teacher on the CPU.

    Raises:
        InputError: as `build_cache`.
        LostError: the cluster's head is gone.
    """
    share = Share(memory_bytes=_NEEDED_TIMES * encoder_bytes(info) + _NEEDED_BESIDES)

    def encode(shards: Sequence[Path], partial: Path, advance: Advance) -> Iterator[Path]:
        work = functools.partial(_encode_there, info.path, partial)
        with cluster.pool("encode with the teacher", share) as pool:
            for shard, count in each(pool, work, shards):
                advance(count)
                yield shard

    return _build(data, info, torch.float32, out, (encode, progress))


class _Encode(Protocol):
    """Writes the cache of shards, and yields each when it is there."""

    def __call__(
        self, shards: Sequence[Path], partial: Path, advance: Advance
    ) -> Iterator[Path]: ...


def _build(
    data: PreparedData,
    info: TeacherInfo,
    dtype: torch.dtype,
    out: Path,
    how: tuple[_Encode, Progress],
) -> TeacherCache:
    encode, progress = how
    key = cache_key(data, info, dtype)
    if finished(out, key, progress.info) is None:
        shards = [*list_shards(data, "train"), *list_shards(data, "validation")]
        with (
            resumable_folder(out, key) as partial,
            progress.track("encode with the teacher", data.train + data.validation) as advance,
        ):
            missing = []
            for shard in shards:
                if _file(shard, partial).exists():
                    advance(sum(1 for _ in iter_shard(shard)), resumed=True)
                else:
                    missing.append(shard)
            for shard in encode(missing, partial, advance):
                note_part(partial, _file(shard, partial))
            finish(partial, key, teacher_key=info.key, data_key=data.key)
    return TeacherCache(out, key, info.key)


def _file(shard: Path, folder: Path) -> Path:
    return folder / f"{shard.stem}.safetensors"


def encoder_bytes(info: TeacherInfo) -> int:
    """Size on disk of the models that images and captions are encoded with."""
    folders = (info.path / name for name in ENCODERS)
    return sum(file.stat().st_size for folder in folders for file in folder.rglob("*"))


@functools.lru_cache(maxsize=1)
def _encoders(path: Path) -> Teacher:
    """A teacher in a worker, which encodes one shard after the other with it."""
    return load_teacher(path, only=ENCODERS)


def _encode_there(teacher: Path, folder: Path, shard: Path) -> int:
    """Write a shard's cache in a worker; returns how many images it has."""
    count = 0

    def advance(n: int, resumed: bool = False) -> None:
        nonlocal count
        count += n

    encode_shard(shard, folder, _encoders(teacher), advance)
    return count


def encode_shard(
    shard: Path, folder: Path, teacher: Teacher, advance: Advance, batch_size: int = _BATCH
) -> None:
    """Write a shard's cache.

    Raises:
        InputError: the teacher's outputs are not finite, or the disk is full or read-only.
    """
    with batch_threads(teacher.vae.device) as pool:
        _write_shard(shard, folder, _Encoder(teacher, pool, batch_size), advance)


@dataclass(frozen=True)
class _Encoder:
    """Batches of images or captions through the teacher, in order, several at a time."""

    teacher: Teacher
    pool: Executor | None
    batch_size: int

    def images(
        self, samples: Iterator[PreparedSample]
    ) -> Iterator[tuple[list[PreparedSample], tuple[torch.Tensor, torch.Tensor]]]:
        first = next(samples, None)
        if first is None:
            return iter(())
        height, width = first.image.shape[:2]  # all sizes of a shard have about one area
        bound = _BATCH_PIXELS if self.pool else _BATCH_PIXELS_GPU
        most = max(1, min(self.batch_size, bound // (height * width)))
        return self._run(chain([first], samples), self._moments, most)

    def captions(self, captions: list[str]) -> Iterator[TextEmbeddings]:
        embed = functools.partial(encode_prompts, self.teacher)
        work = self._run(iter(captions), embed, self.batch_size)
        return (embeddings for _, embeddings in work)

    def _moments(self, batch: list[PreparedSample]) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.stack([to_tensor(sample.image) for sample in batch])
        mean, logvar = encode_images(self.teacher, images)
        return mean.float().cpu(), logvar.float().cpu()

    def _run(
        self, items: Iterator[Item], function: Callable[[list[Item]], Result], size: int
    ) -> Iterator[tuple[list[Item], Result]]:
        tasks = ((batch, batch) for batch in _batches(items, size))
        return ordered_map(self.pool, function, tasks, 2 * torch.get_num_threads())


def _write_shard(shard: Path, folder: Path, encoder: _Encoder, advance: Advance) -> None:
    tensors: dict[str, list[torch.Tensor]] = {"mean": [], "logvar": [], "time_ids": []}
    rows = {"": 0}
    caption_index = []
    for batch, (mean, logvar) in encoder.images(iter_shard(shard)):
        tensors["mean"].append(mean)
        tensors["logvar"].append(logvar)
        tensors["time_ids"].append(torch.tensor([_time_ids(s) for s in batch]))
        caption_index += [rows.setdefault(s.caption, len(rows)) for s in batch]
        advance(len(batch))
    result = {name: torch.cat(parts) for name, parts in tensors.items()}
    result["caption_index"] = torch.tensor(caption_index)
    result.update(_text_tables(encoder, list(rows)))
    _check_finite(result, shard)
    texts = [caption.encode() for caption in rows]
    result["caption_text"] = torch.tensor(list(b"".join(texts)), dtype=torch.uint8)
    result["caption_ends"] = torch.tensor([len(text) for text in texts]).cumsum(0)
    save_tensors(result, _file(shard, folder))


def _batches(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    while batch := list(islice(items, size)):
        yield batch


def _time_ids(sample: PreparedSample) -> tuple[float, ...]:
    """SDXL's size conditioning (Podell et al. 2023, section 2.2)."""
    height, width = sample.image.shape[:2]
    ids = (*sample.original_size, *sample.crop, height, width)
    return tuple(float(value) for value in ids)


def _text_tables(encoder: _Encoder, captions: list[str]) -> dict[str, torch.Tensor]:
    hidden_states, pooled = [], []
    for embeddings in encoder.captions(captions):
        hidden_states.append(_half(embeddings.encoder_hidden_states))
        if embeddings.pooled is not None:
            pooled.append(_half(embeddings.pooled))
    tables = {"encoder_hidden_states": torch.cat(hidden_states)}
    if pooled:
        tables["pooled"] = torch.cat(pooled)
    return tables


def _half(values: torch.Tensor) -> torch.Tensor:
    """float16 where every value fits, else float32 (`torch.cat` then widens the whole table)."""
    values = values.float().cpu()
    half = values.half()
    return half if torch.isfinite(half).all() else values


def _check_finite(tensors: dict[str, torch.Tensor], shard: Path) -> None:
    for name, values in tensors.items():
        if not torch.isfinite(values).all():
            raise InputError(
                "the teacher's encoders must give finite values",
                f"NaN or infinity in `{name}` of {shard.name}",
                "VAEs that overflow in fp16 need fp32.",
            )
