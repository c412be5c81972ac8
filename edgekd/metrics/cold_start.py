"""Cold start: a fresh process, from its start to its first picture; median of the samples."""

from __future__ import annotations

import numpy as np

from edgekd.metrics.metric import Descriptor, Figure, Measurements, Metric, plain


def median(found: Measurements) -> Figure | None:
    return plain(None if found.cold_start_ms is None else float(np.median(found.cold_start_ms)))


METRIC = Metric(
    Descriptor(
        name="cold_start_ms",
        label="cold start",
        title="Cold start to the first picture",
        direction="lower",
        unit="ms",
        format="milliseconds",
        source="latency",
        places=("column",),
        rank=25,
        note="From the start of a fresh process to its first picture: interpreter, libraries, "
        "models, picture. The files come from the system's page cache, not from the disk.",
    ),
    median,
)
