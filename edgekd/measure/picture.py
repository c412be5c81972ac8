"""Pictures to draw, and when a fresh process has drawn them.

Moments are of `time.monotonic_ns`, one clock for all processes of a machine.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

_NS_PER_MS = 1e6
# Milliseconds until the libraries are there, from then until the models are loaded, and from then
# until the picture is drawn.
Spans = tuple[float, float, float]


@dataclass(frozen=True)
class PictureOrder:
    """Pictures of one folder to draw in one call, one for each caption, with a seed each.

    Attributes:
        sampler: diffusers' name of its class.
        side: of the pictures, in pixels.
    """

    path: Path
    threads: int
    sampler: str
    steps: int
    guidance_scale: float
    captions: tuple[str, ...]
    seeds: tuple[int, ...]
    side: int

    @property
    def guided(self) -> bool:
        return self.guidance_scale > 1


@dataclass(frozen=True)
class Moments:
    """When the libraries were imported, all models loaded, and the picture drawn; nanoseconds."""

    imported: int
    loaded: int
    drawn: int

    def spans(self, started: int) -> Spans:
        """Of a process that was started at that moment."""
        moments = [started, self.imported, self.loaded, self.drawn]
        first, second, third = (
            (after - before) / _NS_PER_MS for before, after in itertools.pairwise(moments)
        )
        return first, second, third
