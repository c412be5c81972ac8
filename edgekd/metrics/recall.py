"""Share of real images that lie among the pictures.

Kynkäänniemi et al., 2019; see `edgekd.metrics.manifold`.
"""

from __future__ import annotations

from edgekd.metrics.manifold import PRC_NEIGHBOURS, manifolds_of
from edgekd.metrics.metric import Descriptor, Figure, Metric, of_pictures

METRIC = Metric(
    Descriptor(
        name="recall",
        label="recall",
        title="Recall",
        direction="higher",
        source="pictures",
        places=("column",),
        rank=101,
        full_name=f"recall-k{PRC_NEIGHBOURS}-{{extractor}}-n{{samples}}",
        note="Share of the {reference} real images that lie within the nearest neighbours of "
        "pictures: how varied. Fewer pictures reach fewer of them.",
    ),
    of_pictures(lambda pictures, reference: Figure(value=manifolds_of(pictures, reference).recall)),
)
