"""Which stage of a run begins, and about how long the rest will take."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgekd.progress import Advance, Progress, format_seconds

if TYPE_CHECKING:
    from edgekd.jobs.forecast import Forecast


class StageClock:
    """The progress of a run's stages.

    What is left is told when a stage opens its first bar: one that an earlier call has finished
    opens none, and its time says nothing of the pace.
    """

    def __init__(self, stages: list[str], progress: Progress) -> None:
        self._stages = stages
        self._progress = progress
        self._forecast: Forecast | None = None
        self._told = True

    def use(self, forecast: Forecast) -> None:
        """Take another forecast from here on."""
        self._forecast = forecast

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._progress.info(f"[{self._stages.index(name) + 1}/{len(self._stages)}] {name}")
        self._told = False
        started = time.monotonic()
        yield
        if self._forecast and self._told:
            self._forecast.finish(name, time.monotonic() - started)
        elif self._forecast:
            self._forecast.skip(name)

    def info(self, message: str) -> None:
        self._progress.info(message)

    def track(self, label: str, total: int | None) -> contextlib.AbstractContextManager[Advance]:
        if not self._told:
            self._told = True
            if self._forecast:
                left = format_seconds(self._forecast.remaining_seconds())
                self._progress.info(f"  about {left} left in all")
        return self._progress.track(label, total)
