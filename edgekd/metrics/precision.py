"""Share of pictures that lie among real images.

Kynkäänniemi et al., 2019; see `edgekd.metrics.manifold`.
"""

from __future__ import annotations

from edgekd.metrics.manifold import PRC_NEIGHBOURS, manifolds_of
from edgekd.metrics.metric import Descriptor, Figure, Metric, of_pictures

METRIC = Metric(
    Descriptor(
        name="precision",
        label="precision",
        title="Precision",
        direction="higher",
        source="pictures",
        places=("column",),
        rank=100,
        full_name=f"precision-k{PRC_NEIGHBOURS}-{{extractor}}-n{{samples}}",
        note="Share of the pictures that lie within the nearest neighbours of real images: "
        "how realistic.",
    ),
    of_pictures(
        lambda pictures, reference: Figure(value=manifolds_of(pictures, reference).precision)
    ),
)
