"""Share of real images with a picture nearby.

Naeem et al., 2020; see `edgekd.metrics.manifold`.
"""

from __future__ import annotations

from edgekd.metrics.manifold import COVERAGE_NEIGHBOURS, manifolds_of
from edgekd.metrics.metric import Descriptor, Figure, Metric, of_pictures

METRIC = Metric(
    Descriptor(
        name="coverage",
        label="coverage",
        title="Coverage",
        direction="higher",
        source="pictures",
        places=(),
        rank=103,
        full_name=f"coverage-k{COVERAGE_NEIGHBOURS}-{{extractor}}-n{{samples}}",
        note="Share of the {reference} real images that have a picture nearer than their k-th "
        "neighbour.",
    ),
    of_pictures(
        lambda pictures, reference: Figure(value=manifolds_of(pictures, reference).coverage)
    ),
)
