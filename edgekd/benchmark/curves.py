"""Training curves from a student's `metrics.jsonl`."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from statistics import median
from typing import Any

from edgekd.errors import InputError
from edgekd.report.costs_schema import TrainingCost

MAX_POINTS = 400
_NOT_CURVES = {"step", "epoch", "samples"}
_NOT_REPEATABLE = ("_s", "_bytes")
_RATE = "samples_per_s"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a `.jsonl` file; a last line cut off by a kill is left out.

    Raises:
        InputError: the file is missing, or a line before the last is not a JSON object.
    """
    if not path.is_file():
        raise InputError("training metrics must exist", str(path))
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(dict(json.loads(line)))
        except ValueError:
            if number < len(lines):
                raise InputError(f"line {number} of `{path}` must be JSON", line[:80]) from None
    return rows


def thin(points: list[tuple[float, float]], most: int = MAX_POINTS) -> list[tuple[float, float]]:
    """At most `most` points: neighbours are averaged, so that noise shrinks and nothing is cut."""
    if len(points) <= most:
        return points
    edges = [round(i * len(points) / most) for i in range(most + 1)]
    groups = [points[a:b] for a, b in itertools.pairwise(edges)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]


def load_curve(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Every numeric field of the metrics over `step`, thinned; times and rates left out.

    Points that are not finite are left out too: the run that wrote them has failed by itself.
    """
    series: dict[str, list[tuple[float, float]]] = {}
    for row in read_rows(path):
        step = row.get("step")
        if not isinstance(step, (int, float)):
            continue
        for name, value in row.items():
            if name in _NOT_CURVES or name.endswith(_NOT_REPEATABLE) or isinstance(value, bool):
                continue
            if isinstance(value, (int, float)) and math.isfinite(value):
                series.setdefault(name, []).append((float(step), float(value)))
    return {name: thin(points) for name, points in series.items()}


def load_cost(path: Path) -> TrainingCost | None:
    """What steps of a training took, medians; None: its rows do not say it."""
    rows = [row for row in read_rows(path) if _RATE in row]
    if not rows:
        return None
    measured = [row for row in rows if "peak_bytes" in row]
    names = [name for name in (measured or [{}])[0] if name.endswith("_s") and name != _RATE]
    return TrainingCost(
        samples_per_s=median(row[_RATE] for row in rows),
        parts={
            name[:-2].replace("_", " "): median(row[name] for row in measured) for name in names
        },
        peak_bytes=max((int(row["peak_bytes"]) for row in measured), default=None),
    )
