"""Fréchet distance to real images; see `edgekd.metrics.fid`."""

from __future__ import annotations

from edgekd.metrics.fid import fd
from edgekd.metrics.metric import Descriptor, Figure, Metric, Pictures, Reference, of_pictures


def distance(pictures: Pictures, reference: Reference) -> Figure:
    return Figure(value=fd(pictures.features, reference.features))


METRIC = Metric(
    Descriptor(
        name="fd",
        label="FD",
        title="FD to real images",
        direction="lower",
        source="pictures",
        places=("column", "card", "summary", "plot"),
        rank=60,
        full_name="FD-{extractor}-n{samples}",
        note="Fréchet distance between {samples} pictures and {reference} other held-out images. "
        "It depends on both counts: compare rows of one report only. The row of real images is "
        "its floor.",
    ),
    of_pictures(distance),
)
