"""Exported folders that are drawn in several ways, held open in this process and timed in turns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekd.errors import EdgekdError
from edgekd.measure.clock import Call, time_calls
from edgekd.measure.exported import draw, open_exported
from edgekd.measure.picture import PictureOrder
from edgekd.runtime.pipeline import Pipeline

# Of this process: what `open_points` found that it can draw, by place.
_opened: dict[int, Call] = {}


def open_points(orders: Sequence[PictureOrder]) -> dict[int, str]:
    """Open folders, each once, and draw each order once; why some cannot be drawn, by place."""
    _opened.clear()
    pipelines: dict[tuple[Path, int, str], Pipeline] = {}
    failures = {}
    for place, order in enumerate(orders):
        try:
            key = (order.path, order.threads, order.sampler)
            if key not in pipelines:
                pipelines[key] = open_exported(order)
            _opened[place] = _call(pipelines[key], order)
            _opened[place]()
        except EdgekdError as error:
            _opened.pop(place, None)
            failures[place] = str(error)
    return failures


def _call(pipeline: Pipeline, order: PictureOrder) -> Call:
    return lambda: draw(pipeline, order)


def time_points() -> dict[int, float]:
    """Milliseconds of each opened order, drawn once."""
    return {place: time_calls(call, 0, 1).samples_ms[0] for place, call in _opened.items()}
