"""The processes that train one teacher together, and the sums between them.

Rank 0 is the process that was started; it makes the others and alone writes
files. When it dies, the others end.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, wait
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from edgekd.errors import EdgekdError, GateError
from edgekd.processes.pool import Pool
from edgekd.processes.scratch import scratch_folder

# A rank may wait long: rank 0 draws a sample sheet, or the whole run is suspended. A rank that
# died is noticed at once, by its closed connection.
LONGEST_WAIT = timedelta(days=7)
SECONDS_TO_END = 10


@dataclass(frozen=True)
class Ranks:
    """This process among all. With `count == 1` every exchange is a no-op."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def slice_of(self, batch_size: int) -> slice:
        """This rank's part of a batch over all ranks; `batch_size` is a multiple of `count`."""
        share = batch_size // self.count
        return slice(self.rank * share, (self.rank + 1) * share)

    def average(self, flat: Tensor) -> None:
        """Average a tensor over all ranks in place; every rank gets the same bits."""
        if self.count > 1:
            dist.all_reduce(flat)
            flat.div_(self.count)

    def wait(self) -> None:
        """Go on when all ranks are here."""
        if self.count > 1:
            dist.barrier()


def device_of(ranks: Ranks) -> torch.device:
    """A GPU per rank where there are any, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", ranks.rank % torch.cuda.device_count())
    return torch.device("cpu")


def run_ranks(count: int, work: Callable[..., None], *arguments: Any, own: Any) -> None:
    """Call `work(ranks, *arguments, own)` in `count` processes, one of them this one.

    The other processes get None for `own`. `work` and `arguments` must be picklable
    where `count > 1`.
    """
    if count == 1:
        work(Ranks(), *arguments, own)
        return
    with scratch_folder() as folder, Pool("train beside rank 0", count - 1) as pool:
        # One that cannot even import the work would never come to the meeting.
        pool.submit(callable, work).result()
        meeting = (folder / "meeting").as_uri()
        others = [
            pool.submit(_other_rank, Ranks(rank, count), meeting, work, arguments)
            for rank in range(1, count)
        ]
        try:
            with _group(Ranks(0, count), meeting):
                work(Ranks(0, count), *arguments, own)
        except RuntimeError:
            # An exchange also fails where another rank is gone: then that is the reason.
            for other in wait(others, SECONDS_TO_END, FIRST_EXCEPTION).done:
                if isinstance(other.exception(), GateError):
                    other.result()
            raise
        for other in others:
            other.result()


@contextlib.contextmanager
def _group(ranks: Ranks, meeting: str) -> Iterator[None]:
    if sys.platform == "linux":
        # Gloo would look up the host's own name, which a machine without network may not know.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(
        backend,
        init_method=meeting,
        rank=ranks.rank,
        world_size=ranks.count,
        timeout=LONGEST_WAIT,
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def _other_rank(
    ranks: Ranks, meeting: str, work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    # A loss that is not finite reaches all ranks: rank 0 speaks for them.
    with contextlib.suppress(EdgekdError), _group(ranks, meeting):
        work(ranks, *arguments, None)
