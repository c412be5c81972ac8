"""`metrics.jsonl` of a training run, and the trackers that are told its rows."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from edgekd.files import write_text, writing
from edgekd.training.trackers import TrackedRun, Trackers

METRICS_FILE = "metrics.jsonl"
Row = dict[str, Any]  # `step`, and numbers by name


def read_rows(path: Path) -> list[Row]:
    """Whole rows of a `metrics.jsonl`; what a kill cut off at the end is left out."""
    rows: list[Row] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows


class MetricsLog:
    """Context manager that writes rows to `metrics.jsonl` and tells them to trackers.

    Opened at a checkpoint's step it forgets all later rows: the run will write them again.

    Args:
        folder: writes `metrics.jsonl` in it.
        step: last step to keep; -1 keeps nothing.
        run: as trackers know it; None: there are none.
    """

    def __init__(self, folder: Path, step: int, run: TrackedRun | None = None) -> None:
        self._path = folder / METRICS_FILE
        found = read_rows(self._path)
        rows = [row for row in found if row["step"] <= step]
        with writing(self._path):
            write_text(self._path, "".join(json.dumps(row) + "\n" for row in rows))
            self._stream = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (see __exit__)
            self._trackers = Trackers(run, step, len(found) - len(rows)) if run else None

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with writing(self._path):
            self._stream.close()
            if self._trackers:
                self._trackers.close()

    def write(self, row: Row) -> None:
        """Append a row, with its `step`; a reader sees it at once."""
        with writing(self._path):
            self._stream.write(json.dumps(row, allow_nan=False) + "\n")
            self._stream.flush()
            if self._trackers:
                self._trackers.write(row)

    def picture(self, name: str, image: Any, step: int) -> None:
        """Show an image, uint8 [H, W, 3], in the trackers."""
        if self._trackers:
            with writing(self._path):
                self._trackers.picture(name, image, step)

    def flush(self) -> None:
        """Force all rows to the disk: a checkpoint must not be newer than its rows."""
        with writing(self._path):
            self._stream.flush()
            os.fsync(self._stream.fileno())


class Window:
    """Means over the steps of one row."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps = self._images = 0
        self._started = time.monotonic()

    def add(self, values: dict[str, float], images: int) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1
        self._images += images

    def restart_clock(self) -> None:
        """Leave out what was done since the last row."""
        self._started = time.monotonic()

    def close(self) -> dict[str, float]:
        """The row, and start the next. `images_per_s` is the only value that is not repeatable."""
        now = time.monotonic()
        row = {name: total / self._steps for name, total in self._sums.items()}
        row["images_per_s"] = self._images / max(now - self._started, 1e-9)
        self._sums, self._steps, self._images, self._started = {}, 0, 0, now
        return row
