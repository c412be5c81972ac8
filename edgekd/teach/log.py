"""`metrics.jsonl` of a training stage: means over windows of steps, one JSON object a row."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

METRICS_FILE = "metrics.jsonl"


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


class MetricsLog:
    """`metrics.jsonl`; opened at a step, it forgets the rows after it."""

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        rows = [row for row in read_metrics(path) if row["step"] <= step]
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        temporary.replace(path)

    def write(self, row: dict[str, Any]) -> None:
        with open(self._path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole rows of a `metrics.jsonl`; a row that was cut off by a kill is left out."""
    rows = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows
