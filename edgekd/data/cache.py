"""What a teacher makes of prepared data: VAE moments and text embeddings, memory-mapped.

One safetensors file and one JSON file for each shard of the data; each file
stands for itself, so a cache of any size is built and read in bounded memory.
`edgekd.data.cache_writer` builds them.

Shapes: N samples and M different captions of a shard, [C, h, w] latents, L
tokens, D cross-attention width, P pooled width (SDXL).

    mean, logvar            float32 [N, C, h, w]
    caption_index           int64 [N], row of the text tables
    time_ids                float32 [N, 6]: original height and width, crop top and left,
                            target height and width
    encoder_hidden_states   float16 [M, L, D]; row 0 is the empty caption
    pooled                  float16 [M, P], SDXL only

Moments are float32: the posterior's deviation exp(logvar / 2) can be far below
the spacing of float16 at the mean (0.016 at 16), so rounding would outweigh
the noise that the moments stand for. Text, which is most of the bytes, is
float16 as in ordinary inference; its relative error is 5e-4.
"""

from __future__ import annotations

import bisect
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgekd.artifacts import TeacherCache
from edgekd.data.dataset import SplitName
from edgekd.data.split import Holdout


@dataclass(frozen=True)
class CachedBatch:
    """Cached samples, float32 on the CPU; B samples.

    Attributes:
        mean: [B, C, h, w], unscaled.
        logvar: [B, C, h, w].
        encoder_hidden_states: [B, L, D].
        pooled: [B, P] for SDXL, else None.
        time_ids: [B, 6].
        captions: B strings.
    """

    mean: torch.Tensor
    logvar: torch.Tensor
    encoder_hidden_states: torch.Tensor
    pooled: torch.Tensor | None
    time_ids: torch.Tensor
    captions: list[str]


@dataclass(frozen=True)
class _Shard:
    tensors: dict[str, torch.Tensor]
    samples: list[dict[str, Any]]


class CachedLatents:
    """One side of the split of a cache, addressed by sample number in preparation's order."""

    def __init__(self, shards: list[_Shard]) -> None:
        if not shards:
            raise ValueError("a cache has at least one shard for each side of the split")
        self._shards = shards
        sizes = (len(shard.samples) for shard in shards)
        self._starts = list(itertools.accumulate(sizes, initial=0))

    @classmethod
    def load(cls, cache: TeacherCache, split: SplitName) -> CachedLatents:
        """Map one side of the split; pages are read when they are used."""
        from safetensors.torch import load_file

        files = sorted(cache.root.glob(f"{split}-*.safetensors"))
        return cls([_Shard(load_file(path), _read_samples(path)) for path in files])

    def __len__(self) -> int:
        return self._starts[-1]

    def _locate(self, index: int) -> tuple[_Shard, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"`0 <= index < {len(self)}` must hold, but got {index}")
        number = bisect.bisect_right(self._starts, index) - 1
        return self._shards[number], index - self._starts[number]

    def batch(self, indices: torch.Tensor) -> CachedBatch:
        """Gather samples in the order of `indices` [B], repetitions allowed.

        Raises:
            IndexError: an index that no sample has.
        """
        places = [self._locate(int(index)) for index in indices]
        rows = [int(shard.tensors["caption_index"][local]) for shard, local in places]
        captions = list(zip((shard for shard, _ in places), rows, strict=True))
        return CachedBatch(
            mean=_gather("mean", places),
            logvar=_gather("logvar", places),
            encoder_hidden_states=_gather("encoder_hidden_states", captions),
            pooled=_gather("pooled", captions) if self._has_pooled else None,
            time_ids=_gather("time_ids", places),
            captions=[shard.samples[local]["caption"] for shard, local in places],
        )

    @property
    def _has_pooled(self) -> bool:
        return "pooled" in self._shards[0].tensors

    def empty(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Embeddings of the empty caption: [1, L, D] and, for SDXL, [1, P]."""
        place = [(self._shards[0], 0)]
        pooled = _gather("pooled", place) if self._has_pooled else None
        return _gather("encoder_hidden_states", place), pooled

    def captions(self, i: int) -> str:
        """Caption of a sample."""
        shard, local = self._locate(i)
        caption: str = shard.samples[local]["caption"]
        return caption

    def holdout(self, i: int) -> Holdout:
        """`"train"`, or the kind of validation of a sample: `"group"` or `"image"`."""
        shard, local = self._locate(i)
        kind: Holdout = shard.samples[local]["holdout"]
        return kind


def _gather(name: str, places: list[tuple[_Shard, int]]) -> torch.Tensor:
    return torch.stack([shard.tensors[name][row] for shard, row in places]).float()


def samples_path(tensors_path: Path) -> Path:
    """The JSON file beside a shard's tensors: key, caption and holdout of each sample."""
    return tensors_path.with_suffix(".json")


def _read_samples(tensors_path: Path) -> list[dict[str, Any]]:
    samples: list[dict[str, Any]] = json.loads(samples_path(tensors_path).read_text("utf-8"))
    return samples


def iter_captions(cache: TeacherCache, split: SplitName) -> Iterator[str]:
    """Captions of one side of the split, in order, without touching tensors."""
    for path in sorted(cache.root.glob(f"{split}-*.safetensors")):
        yield from (sample["caption"] for sample in _read_samples(path))
