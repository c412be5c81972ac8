"""Processor time of one picture, all threads together; median of the samples."""

from __future__ import annotations

import numpy as np

from edgekd.metrics.metric import Descriptor, Figure, Measurements, Metric, plain


def median(found: Measurements) -> Figure | None:
    return plain(None if not found.cpu_ms else float(np.median(found.cpu_ms)))


METRIC = Metric(
    Descriptor(
        name="cpu_ms",
        label="processor time",
        title="Processor time per picture",
        direction="lower",
        unit="ms",
        format="milliseconds",
        source="latency",
        places=(),
        rank=26,
    ),
    median,
)
