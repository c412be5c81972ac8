"""Energy of one picture by a counter of the machine; median of the samples."""

from __future__ import annotations

import numpy as np

from edgekd.metrics.metric import Descriptor, Figure, Measurements, Metric, plain


def median(found: Measurements) -> Figure | None:
    return plain(None if not found.joules else float(np.median(found.joules)))


METRIC = Metric(
    Descriptor(
        name="joules",
        label="energy",
        title="Energy per picture",
        direction="lower",
        unit="J",
        source="energy",
        places=("column",),
        rank=28,
        note="By the machine's own counter while the picture was drawn, what ran beside and what "
        "an idle machine takes included.",
    ),
    median,
)
