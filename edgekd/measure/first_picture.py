"""What a fresh process does from its start to its first picture of an exported folder.

A child imports this module by itself, and little besides: what an export's process loads is then
what an app loads.
"""

from __future__ import annotations

import time

from edgekd.measure.picture import Moments, PictureOrder


def draw_first(order: PictureOrder) -> Moments:
    """By `edgekd.runtime`. The tokenizer is read before `imported`, as the runtime's import is."""
    from edgekd.measure.exported import draw, open_exported

    pipeline = open_exported(order)
    imported = time.monotonic_ns()
    pipeline.load()
    loaded = time.monotonic_ns()
    draw(pipeline, order)
    return Moments(imported, loaded, time.monotonic_ns())
