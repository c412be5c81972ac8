"""Fréchet distance on DINOv2's features (Stein et al., 2023, arXiv:2306.04675)."""

from __future__ import annotations

from edgekd.metrics.extractors.dinov2 import DINOV2
from edgekd.metrics.fid import fd_figure, reference_gaussian
from edgekd.metrics.metric import Descriptor, Figure, Metric, Pictures, Reference, of_extraction


def distance(pictures: Pictures, reference: Reference) -> Figure:
    gaussian = reference_gaussian(reference, DINOV2.name)
    return fd_figure(pictures.extracted[DINOV2.name], gaussian, reference.seed)


METRIC = Metric(
    Descriptor(
        name="fd_dinov2",
        label="FD-DINOv2",
        title="FD-DINOv2 to real images",
        direction="lower",
        source="pictures",
        places=("column",),
        rank=72,
        full_name="FD-{dinov2}-n{samples}",
        note="Fréchet distance of DINOv2's class token between {samples} pictures and {reference} "
        "other held-out images; interval as of FD.",
    ),
    of_extraction(DINOV2, distance),
    DINOV2,
)
