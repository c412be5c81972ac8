"""What a row's pipeline is asked to draw, and what it answers.

images: [B,H,W,3] uint8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from edgekd.benchmark.cases import Case
from edgekd.errors import InputError
from edgekd.measure.picture import PictureOrder
from edgekd.metrics.metric import Images
from edgekd.recipe import RowGeneration
from edgekd.runtime.folder import read_scheduler
from edgekd.runtime.samplers import fewest_steps

Call = Callable[[], Any]


@dataclass(frozen=True)
class DrawingBatch:
    """Pictures of one case, which has a generation, to draw together.

    Attributes:
        threads: of the case's runtime.
        indices: one for each caption: of its noise.
        out: file for the pictures; None: they are drawn to be measured.
    """

    case: Case
    threads: int
    captions: Sequence[str]
    indices: Sequence[int]
    resolution: int
    seed: int
    out: Path | None = None

    @property
    def generation(self) -> RowGeneration:
        assert self.case.generation is not None
        return self.case.generation

    @property
    def seeds(self) -> list[int]:
        """Of each picture's noise."""
        return [noise_seed(self.seed, index) for index in self.indices]

    @property
    def order(self) -> PictureOrder:
        """The same pictures, for those who know no cases."""
        return PictureOrder(
            path=self.case.path,
            threads=self.threads,
            sampler=self.generation.sampler,
            steps=self.generation.steps,
            guidance_scale=self.generation.guidance_scale,
            captions=tuple(self.captions),
            seeds=tuple(self.seeds),
            side=self.resolution,
        )

    def drawn_with(self, **changes: Any) -> DrawingBatch:
        """This batch with another generation."""
        generation = replace(self.generation, **changes)
        return replace(self, case=replace(self.case, generation=generation))

    def in_few_steps(self, least: int = 1) -> DrawingBatch:
        """This batch in the fewest steps, `least` or more, that its sampler takes."""
        try:
            scheduler = read_scheduler(self.case.path, self.generation.sampler)
        except InputError:  # one of torch's alone
            return self.drawn_with(steps=min(least, self.generation.steps))
        return self.drawn_with(steps=fewest_steps(scheduler, self.generation.steps, least))


class Drawer(Protocol):
    """A row's pipeline, opened."""

    def load(self) -> None:
        """Load what would else be loaded at its first use."""

    def draw(self, batch: DrawingBatch) -> Images:
        """Pictures of a batch.

        Raises:
            GateError: a picture holds NaN or infinity.
        """

    def step_calls(self, batch: DrawingBatch) -> dict[str, Call]:
        """Draw a batch, and give each component's calls, ready to be repeated on their inputs."""


def noise_seed(suite_seed: int, prompt_index: int) -> int:
    """Seed of one prompt's noise: 63 bits of a hash, so that neighbours share nothing."""
    digest = hashlib.sha256(f"noise:{suite_seed}:{prompt_index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
