"""What worker processes are asked for, as JSON between processes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgekd.benchmark.cases import Case
from edgekd.benchmark.suite import SpeedSection
from edgekd.recipe import Section
from edgekd.report.schema import Record, Timing


class DrawOrder(Section):
    """Draw one batch with a case that has a generation, and write it to `out`.

    Attributes:
        threads: of every runtime while it draws.
        indices: of the prompts; with `seed` they decide the noise.
    """

    operation: Literal["draw"] = "draw"
    case: Case
    threads: int
    captions: list[str]
    indices: list[int]
    resolution: int
    seed: int
    out: Path | None = None


class SpeedOrder(Section):
    """Time all cases in turns, in a process that has done nothing else."""

    operation: Literal["speed"] = "speed"
    cases: list[Case]
    caption: str
    resolution: int
    speed: SpeedSection


class SpeedResult(Record):
    """Times by case and component; `image` is the whole picture."""

    load_average: float | None
    timings: dict[str, dict[str, Timing]]
