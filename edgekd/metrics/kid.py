"""Kernel inception distance to real images; see `edgekd.metrics.fid`."""

from __future__ import annotations

from edgekd.metrics.fid import kid
from edgekd.metrics.metric import Descriptor, Figure, Metric, Pictures, Reference, of_pictures


def distance(pictures: Pictures, reference: Reference) -> Figure:
    """Mean and deviation over subsets, whose size is reduced to the smaller of the two sets."""
    size = reference.fitting_subset(len(pictures.features))
    mean, deviation = kid(
        pictures.features, reference.features, reference.subsets, size, reference.seed
    )
    return Figure(value=mean, error=deviation)


METRIC = Metric(
    Descriptor(
        name="kid",
        label="KID",
        title="KID to real images",
        direction="lower",
        scale=1000,
        source="pictures",
        places=("column", "summary"),
        rank=70,
        full_name="KID-{extractor}-n{samples}-s{subsets}x{subset_size}",
        note="Squared maximum mean discrepancy, mean ± standard deviation over subsets; unbiased, "
        "so it may be slightly below 0.",
    ),
    of_pictures(distance),
)
