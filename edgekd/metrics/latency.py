"""Latency of one picture: the median of the samples.

Where other work held the core of the one thread that was timed, a picture's least processor time
stands in for it: that is what an idle machine takes. Wall-clock then holds the others' time slices,
which fall on short and long pictures unequally; and what they do to the caches only adds to
processor time, hence the least.
"""

from __future__ import annotations

import numpy as np

from edgekd.metrics.metric import Descriptor, Figure, Measurements, Metric, plain


def p50(found: Measurements) -> Figure | None:
    if found.latency_ms is None:
        return None
    if found.contended and found.cpu_ms:
        return Figure(value=min(found.cpu_ms))
    return plain(float(np.percentile(found.latency_ms, 50)))


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
        note="Median of wall-clock times. Where other work held the core of a row's one thread to "
        "the end, the least processor time of a picture instead: what an idle machine takes.",
    ),
    p50,
)
