"""Fréchet distance to real images on the shipped features; see `edgekd.metrics.fid`."""

from __future__ import annotations

from edgekd.metrics.fid import fd_figure, reference_gaussian
from edgekd.metrics.metric import Descriptor, Figure, Metric, Pictures, Reference, of_pictures


def distance(pictures: Pictures, reference: Reference) -> Figure:
    return fd_figure(pictures.features, reference_gaussian(reference), reference.seed)


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
        "its floor. The 95 % interval is a bootstrap over pictures of the distance's first-order "
        "expansion in their weights; the bias by their number is not in it.",
    ),
    of_pictures(distance),
)
