"""Draw one picture per prompt, from noise that belongs to the prompt and not to the row.

Exported folders are drawn by `edgekd.runtime`, as an app draws; nothing here imports torch for
them. Diffusers folders are drawn by diffusers.

images: [B,H,W,3] uint8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from edgekd.benchmark.cases import TORCH, Case
from edgekd.benchmark.orders import DrawOrder
from edgekd.metrics.metric import Images
from edgekd.recipe import RowGeneration

Call = Callable[[], Any]


@dataclass(frozen=True)
class Batch:
    """Pictures to draw: the i-th of `captions` from the noise of the i-th of `seeds`."""

    captions: tuple[str, ...]
    seeds: tuple[int, ...]
    generation: RowGeneration
    resolution: int

    @classmethod
    def of(cls, order: DrawOrder) -> Batch:
        assert order.case.generation is not None
        seeds = tuple(noise_seed(order.seed, index) for index in order.indices)
        return cls(tuple(order.captions), seeds, order.case.generation, order.resolution)


class Drawer(Protocol):
    """A row's pipeline, opened."""

    def draw(self, batch: Batch) -> Images:
        """Pictures of a batch.

        Raises:
            GateError: a picture holds NaN or infinity.
        """

    def step_calls(self, batch: Batch) -> dict[str, Call]:
        """Draw a batch, and give each component's calls, ready to be repeated on their inputs."""


def noise_seed(suite_seed: int, prompt_index: int) -> int:
    """Seed of one prompt's noise: 63 bits of a hash, so that neighbours share nothing."""
    digest = hashlib.sha256(f"noise:{suite_seed}:{prompt_index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def open_drawer(case: Case, threads: int) -> Drawer:
    """Load a case that has a generation in its runtime.

    Args:
        threads: CPU threads of the runtime; for torch it is set for the whole process.
    """
    if case.runtime == TORCH:
        from edgekd.benchmark.torch_drawer import TorchDrawer

        return TorchDrawer(case, threads)
    from edgekd.benchmark.exported_drawer import ExportedDrawer

    return ExportedDrawer(case, threads)


def preload(payload: dict[str, Any]) -> None:
    """Import a case's libraries (see `edgekd.measure.worker`)."""
    case = DrawOrder.model_validate(payload).case
    if case.runtime == TORCH:
        from edgekd.benchmark.torch_drawer import import_libraries

        import_libraries()
        return
    from edgekd.benchmark.exported_drawer import open_pipeline

    open_pipeline(case, threads=1)  # its models are loaded when first used


def draw_one(payload: dict[str, Any]) -> None:
    """The work whose peak memory is measured: load a case and draw one picture."""
    order = DrawOrder.model_validate(payload)
    open_drawer(order.case, order.threads).draw(Batch.of(order))
