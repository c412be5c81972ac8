"""What a teacher makes of prepared data: VAE moments and text embeddings, memory-mapped.

One safetensors file for each shard of the data, with samples in the shard's order. A file
stands for itself, and nothing of it is held in memory but what a batch needs, so a cache of any
size is built and read in bounded memory. `edgekd.data.cache_writer` builds them.

Shapes: N samples and M different captions of a shard, [C, h, w] latents (the same in a shard,
others in another: see `edgekd.data.buckets`), L tokens, D cross-attention width, P pooled width
(SDXL), U bytes of all captions in UTF-8.

    mean, logvar            float32 [N, C, h, w]
    caption_index           int64 [N], row of the text tables
    time_ids                float32 [N, 6]: original height and width, crop top and left,
                            target height and width
    encoder_hidden_states   float16 [M, L, D]; row 0 is the empty caption
    pooled                  float16 [M, P], SDXL only
    caption_text            uint8 [U]
    caption_ends            int64 [M], of each caption in `caption_text`

Moments are float32: the posterior's deviation exp(logvar / 2) can be far below
the spacing of float16 at the mean (0.016 at 16), so rounding would outweigh
the noise that the moments stand for. Text, which is most of the bytes, is
float16 as in ordinary inference; its relative error is 5e-4.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from edgekd.artifacts import TeacherCache
from edgekd.data.dataset import SplitName

Shard = dict[str, torch.Tensor]


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


class CachedLatents:
    """One side of the split of a cache, addressed by sample number in preparation's order."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        if not shards:
            raise ValueError("a cache has at least one shard for each side of the split")
        self._shards = shards
        sizes = (len(shard["mean"]) for shard in shards)
        self._starts = list(itertools.accumulate(sizes, initial=0))
        # Samples whose latents have one shape.
        self.buckets = self._buckets()

    @classmethod
    def load(cls, cache: TeacherCache, split: SplitName) -> CachedLatents:
        """Map one side of the split; pages are read when they are used."""
        from safetensors.torch import load_file

        files = sorted(cache.root.glob(f"{split}-*.safetensors"))
        return cls([load_file(path) for path in files])

    def __len__(self) -> int:
        return self._starts[-1]

    def _buckets(self) -> list[range]:
        shapes = [shard["mean"].shape[1:] for shard in self._shards]
        firsts = [i for i, shape in enumerate(shapes) if i == 0 or shape != shapes[i - 1]]
        starts = [*(self._starts[i] for i in firsts), len(self)]
        return [range(*pair) for pair in itertools.pairwise(starts)]

    def _locate(self, index: int) -> tuple[Shard, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"`0 <= index < {len(self)}` must hold, but got {index}")
        number = bisect.bisect_right(self._starts, index) - 1
        return self._shards[number], index - self._starts[number]

    def batch(self, indices: torch.Tensor) -> CachedBatch:
        """Gather samples of one bucket in the order of `indices` [B], repetitions allowed.

        Raises:
            IndexError: an index that no sample has.
        """
        places = [self._locate(int(index)) for index in indices]
        hidden_states, pooled = self.text(indices)
        return CachedBatch(
            mean=_gather("mean", places),
            logvar=_gather("logvar", places),
            encoder_hidden_states=hidden_states,
            pooled=pooled,
            time_ids=_gather("time_ids", places),
            captions=[_caption(*_row_of(place)) for place in places],
        )

    def text(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Embeddings of samples' captions: [B, L, D] and, for SDXL, [B, P]; of any buckets."""
        return self._texts([_row_of(self._locate(int(index))) for index in indices])

    def empty(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Embeddings of the empty caption: [1, L, D] and, for SDXL, [1, P]."""
        return self._texts([(self._shards[0], 0)])

    def _texts(self, rows: Sequence[tuple[Shard, int]]) -> tuple[torch.Tensor, torch.Tensor | None]:
        pooled = _gather("pooled", rows) if "pooled" in self._shards[0] else None
        return _gather("encoder_hidden_states", rows), pooled

    def captions(self, i: int) -> str:
        """Caption of a sample."""
        return _caption(*_row_of(self._locate(i)))


def _row_of(place: tuple[Shard, int]) -> tuple[Shard, int]:
    """Where the text of a sample is."""
    shard, local = place
    return shard, int(shard["caption_index"][local])


def _caption(shard: Shard, row: int) -> str:
    ends = shard["caption_ends"]
    text = shard["caption_text"][int(ends[row - 1]) if row else 0 : int(ends[row])]
    return text.numpy().tobytes().decode()


def _gather(name: str, places: Sequence[tuple[Shard, int]]) -> torch.Tensor:
    return torch.stack([shard[name][row] for shard, row in places]).float()
