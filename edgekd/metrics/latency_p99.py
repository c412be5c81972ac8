"""Latency of one picture that 99 of 100 stay below; not of fewer, nor of a contended core."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgekd.metrics.metric import Descriptor, Figure, Measurements, Metric, plain

# Of fewer it would be the slowest one under another name.
SAMPLES: Final = 100


def p99(found: Measurements) -> Figure | None:
    if found.latency_ms is None or found.contended or len(found.latency_ms) < SAMPLES:
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
