"""Latency of one picture: the median of the samples."""

from __future__ import annotations

import numpy as np

from edgekd.metrics.metric import Descriptor, Figure, Measurements, Metric, plain


def p50(found: Measurements) -> Figure | None:
    return plain(None if found.latency_ms is None else float(np.percentile(found.latency_ms, 50)))


METRIC = Metric(
    Descriptor(
        name="latency_ms",
        label="latency p50",
        title="Latency per picture, p50",
        direction="lower",
        unit="ms",
        format="milliseconds",
        source="latency",
        rank=20,
    ),
    p50,
)
