"""Latency of one picture that 99 of 100 stay below; none where other work held the core."""

from __future__ import annotations

import numpy as np

from edgekd.metrics.metric import Descriptor, Figure, Measurements, Metric, plain


def p99(found: Measurements) -> Figure | None:
    if found.latency_ms is None or found.contended:
        return None
    return plain(float(np.percentile(found.latency_ms, 99)))


METRIC = Metric(
    Descriptor(
        name="latency_p99_ms",
        label="latency p99",
        title="Latency per picture, p99",
        direction="lower",
        unit="ms",
        format="milliseconds",
        source="latency",
        places=(),
        rank=21,
    ),
    p99,
)
