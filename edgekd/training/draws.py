"""Randomness without state: every draw is a function of the seed and a position.

A run consumes one endless stream of samples; step s of a run whose steps take G samples (over
all micro-batches and processes) takes positions s * G to (s + 1) * G. What is drawn for a
position (which training sample, which noise, whether the caption is dropped) depends on the
seed and the position only. So a run resumes exactly, and it sees the same samples whether
they are spread over one process or several.

Shapes: B batch, [B, C, h, w] latents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor

# Neighbours that are read together where a window says so: 64 MB of a Stable Diffusion 1.5 cache.
BLOCK = 256


def generator(seed: int, purpose: str, index: int) -> torch.Generator:
    """A fresh CPU generator that depends on its arguments only."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))


def step_choice(seed: int, step: int) -> int:
    """Seed of what a loss chooses in a step; the same in all its processes."""
    return int(torch.randint(2**62, (), generator=generator(seed, "choice", step)))


def _permutation(count: int, window: int, source: torch.Generator) -> Tensor:
    """A random order of samples, [count].

    With a window, blocks of neighbours are put in a random order, and in each `window` samples of
    what results the samples are. This is how streams of shards are shuffled, and a disk or network
    reads most of a block at a time; but nothing is consumed, so any position can be gone back to.
    """
    if not 0 < window < count:
        return torch.randperm(count, generator=source)
    firsts = torch.randperm(-(-count // BLOCK), generator=source) * BLOCK
    order = torch.cat([torch.arange(i, min(i + BLOCK, count)) for i in firsts.tolist()])
    parts = (order[i : i + window] for i in range(0, count, window))
    return torch.cat([part[torch.randperm(len(part), generator=source)] for part in parts])


@lru_cache(maxsize=2)
def _epoch(seed: int, epoch: int, count: int, window: int) -> Tensor:
    return _permutation(count, window, generator(seed, "epoch", epoch))


def sample_indices(seed: int, positions: Sequence[int], count: int, window: int = 0) -> Tensor:
    """Training samples at stream positions, [B] in [0, count).

    Each epoch is a random permutation of all samples.

    Args:
        window: see `_permutation`; 0: all samples.
    """
    indices = [int(_epoch(seed, p // count, count, window)[p % count]) for p in positions]
    return torch.tensor(indices)


@lru_cache(maxsize=2)
def _dealt(
    seed: int, epoch: int, counts: tuple[int, ...], steps: int, window: int
) -> tuple[Tensor, Tensor]:
    """Bucket of each step of an epoch, [steps], and all buckets' permutations, one after another.

    Systematic sampling: the samples of all buckets are laid side by side, and points at equal
    distances from a random offset choose the buckets. So a bucket has its share of the steps on
    average, and rounded up or down in each epoch, be it less than one.
    """
    source = generator(seed, "buckets", epoch)
    points = torch.arange(steps, dtype=torch.float64) + float(torch.rand((), generator=source))
    ends = torch.tensor(list(accumulate(counts)))
    buckets = torch.bucketize(points * (sum(counts) / steps), ends, right=True)
    buckets = buckets.clamp(max=len(counts) - 1)[torch.randperm(steps, generator=source)]
    return buckets, torch.cat([_permutation(count, window, source) for count in counts])


def bucketed_indices(
    seed: int,
    positions: Sequence[int],
    step_samples: int,
    buckets: Sequence[range],
    window: int = 0,
) -> Tensor:
    """Training samples at stream positions of one step, [B], all of one of the buckets.

    As a whole step has one bucket, it does not matter how it is spread over micro-batches and
    processes. An epoch has as many steps as all samples fill. In it a bucket gives its samples
    in a random order, and begins anew where its steps take more than it has. A single bucket is
    read as by `sample_indices`.

    Args:
        step_samples: samples of one optimiser step.
        buckets: the samples of each.
        window: see `sample_indices`.
    """
    if len(buckets) == 1:
        return sample_indices(seed, positions, len(buckets[0]), window)
    counts = tuple(len(bucket) for bucket in buckets)
    step = positions[0] // step_samples
    steps = -(-sum(counts) // step_samples)
    epoch, number = divmod(step, steps)
    dealt, orders = _dealt(seed, epoch, counts, steps, window)
    chosen = int(dealt[number])
    before = int((dealt[:number] == chosen).sum()) - step
    slots = [(before * step_samples + p) % counts[chosen] for p in positions]
    return buckets[chosen].start + orders[sum(counts[:chosen]) + torch.tensor(slots)]


def step_positions(step: int, micro: int, rank: int, batch: BatchPlan) -> range:
    """Stream positions of one process's micro-batch in step `step` (from 0)."""
    first = step * batch.step_samples + (micro * batch.processes + rank) * batch.batch_size
    return range(first, first + batch.batch_size)


@dataclass(frozen=True)
class BatchPlan:
    """How a step's samples are spread: `accumulation` micro-batches on each of `processes`."""

    batch_size: int
    accumulation: int = 1
    processes: int = 1

    @property
    def step_samples(self) -> int:
        """Samples of one optimiser step."""
        return self.batch_size * self.accumulation * self.processes


@dataclass(frozen=True)
class Draw:
    """What is drawn for a batch.

    Attributes:
        timesteps: [B].
        keep_caption: [B] false where the caption is dropped.
        noise: [B, C, h, w] of the forward diffusion.
        vae_noise: [B, C, h, w] of the VAE's posterior.
    """

    timesteps: Tensor
    keep_caption: Tensor
    noise: Tensor
    vae_noise: Tensor


def draw(
    seed: int,
    positions: Sequence[int],
    step_samples: int,
    timesteps: int,
    dropout: float,
    shape: Sequence[int],
) -> Draw:
    """Draw for stream positions.

    The timesteps of one step are spread evenly over the schedule from a common random offset,
    `t_i = frac(u + i / G) T` (Kingma et al. 2021, appendix I.1): each is uniform, and the
    loss of a small batch varies less.

    Args:
        step_samples: G, samples of one optimiser step.
        timesteps: T, of the schedule.
        dropout: probability that a caption is dropped.
        shape: [C, h, w] of one sample's latents.
    """
    chosen, keep, noise, vae_noise = [], [], [], []
    for position in positions:
        step, slot = divmod(position, step_samples)
        offset = float(torch.rand((), generator=generator(seed, "timesteps", step)))
        fraction = (offset + slot / step_samples) % 1.0
        chosen.append(min(int(fraction * timesteps), timesteps - 1))
        source = generator(seed, "sample", position)
        keep.append(float(torch.rand((), generator=source)) >= dropout)
        noise.append(torch.randn(*shape, generator=source))
        vae_noise.append(torch.randn(*shape, generator=source))
    return Draw(
        torch.tensor(chosen), torch.tensor(keep), torch.stack(noise), torch.stack(vae_noise)
    )
