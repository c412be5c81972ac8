"""Progress for people: bars on a terminal, plain lines elsewhere, always on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Protocol

from edgekd.errors import one_line


class Advance(Protocol):
    """Moves a bar."""

    def __call__(self, n: int, resumed: bool = False) -> None:
        """Count `n` units more; `resumed`: an earlier process did them, they tell no pace."""


class Progress(Protocol):
    """What a stage may say while it works."""

    def info(self, message: str) -> None:
        """Print one line."""

    def track(self, label: str, total: int | None) -> contextlib.AbstractContextManager[Advance]:
        """Open a bar of `total` units; the yielded callable advances it by n units."""


class Silent:
    """Says nothing: for tests and library use."""

    def info(self, message: str) -> None:
        del message

    @contextlib.contextmanager
    def track(self, label: str, total: int | None) -> Iterator[Advance]:
        del label, total
        yield lambda n, resumed=False: None


def counted(count: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def format_seconds(seconds: float) -> str:
    """`75` → `1m15s`; `3` → `3s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


class Lines:
    """Plain lines, one every few seconds, for logs and pipes."""

    def __init__(self, every_seconds: float = 10.0) -> None:
        self._every_seconds = every_seconds

    def info(self, message: str) -> None:
        print(one_line(message), file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def track(self, label: str, total: int | None) -> Iterator[Advance]:
        started = last = time.monotonic()
        done = before = 0

        def advance(n: int, resumed: bool = False) -> None:
            nonlocal done, before, last
            done += n
            before += n if resumed else 0
            now = time.monotonic()
            if now - last >= self._every_seconds:
                last = now
                rate = (done - before) / (now - started)
                self.info(f"  {label}: {self._state(done, total, rate)}")

        yield advance
        if done > before:
            seconds = format_seconds(time.monotonic() - started)
            self.info(f"  {label}: {done - before} in {seconds}")

    @staticmethod
    def _state(done: int, total: int | None, rate: float) -> str:
        if total is None:
            return f"{done} ({rate:.1f}/s)"
        remaining = format_seconds((total - done) / rate) if rate else "unknown"
        return f"{done}/{total} ({rate:.1f}/s, {remaining} left)"


class Bars:
    """Rich bars for a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    def info(self, message: str) -> None:
        self._console.print(one_line(message), markup=False, highlight=False)

    @contextlib.contextmanager
    def track(self, label: str, total: int | None) -> Iterator[Advance]:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=self._console) as bars:
            task = bars.add_task(label, total=total)
            yield lambda n, resumed=False: bars.advance(task, n)


def console() -> Progress:
    """Bars when stderr is a terminal, else lines."""
    return Bars() if sys.stderr.isatty() else Lines()
