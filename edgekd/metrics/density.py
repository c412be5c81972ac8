"""How many real images' neighbourhoods a picture lies in.

Naeem et al., 2020; see `edgekd.metrics.manifold`.
"""

from __future__ import annotations

from edgekd.metrics.manifold import COVERAGE_NEIGHBOURS, manifolds_of
from edgekd.metrics.metric import Descriptor, Figure, Metric, of_pictures

METRIC = Metric(
    Descriptor(
        name="density",
        label="density",
        title="Density",
        direction="higher",
        source="pictures",
        places=(),
        rank=102,
        full_name=f"density-k{COVERAGE_NEIGHBOURS}-{{extractor}}-n{{samples}}",
        note="Mean number of real images in whose neighbourhood a picture lies, over k; real "
        "images have about 1. Outliers among the real images weigh less than in precision.",
    ),
    of_pictures(
        lambda pictures, reference: Figure(value=manifolds_of(pictures, reference).density)
    ),
)
