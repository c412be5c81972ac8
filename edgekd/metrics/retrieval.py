"""Share of pictures whose own caption is found among all of a row's captions.

Equal captions are one to choose; see `edgekd.metrics.caption_fit`. Two scorers, the starter's and
the user's CLIP, each under its own names: their figures cannot be compared.
"""

from __future__ import annotations

from collections.abc import Callable

from edgekd.metrics.caption_fit import halves, retrieval
from edgekd.metrics.extractors.clip import CLIP
from edgekd.metrics.metric import (
    SCORER,
    Descriptor,
    Figure,
    Metric,
    Pictures,
    Place,
    Reference,
    of_extraction,
    of_pictures,
)
from edgekd.metrics.score import mean_figure

Measure = Callable[[Pictures, Reference], Figure]


def share(extraction: str, rank: int) -> Measure:
    """R@rank by the embeddings of an extraction."""

    def measure(pictures: Pictures, reference: Reference) -> Figure:
        images, texts = halves(pictures.extracted[extraction])
        hits = retrieval(images, texts, pictures.captions)[f"r{rank}"]
        return mean_figure(hits, reference.seed)

    return measure


def describe(
    name: str, label: str, scorer: str, places: tuple[Place, ...], rank: int
) -> Descriptor:
    return Descriptor(
        name=name,
        label=label,
        title=f"Retrieval, {label}",
        direction="higher",
        source="pictures",
        places=places,
        rank=rank,
        full_name=f"{label.replace(' ', '-')}-{{{scorer}}}-n{{samples}}",
        note="Share of the pictures whose own caption the scorer finds best, or among the best "
        "five, of all different captions; mean ± standard error.",
    )


R1 = Metric(
    describe("retrieval_r1", "R@1", "scorer", ("column",), 90),
    of_pictures(share(SCORER, 1)),
)
R5 = Metric(describe("retrieval_r5", "R@5", "scorer", (), 91), of_pictures(share(SCORER, 5)))
CLIP_R1 = Metric(
    describe("clip_retrieval_r1", "CLIP R@1", "clip", ("column",), 92),
    of_extraction(CLIP, share(CLIP.name, 1)),
    CLIP,
)
CLIP_R5 = Metric(
    describe("clip_retrieval_r5", "CLIP R@5", "clip", (), 93),
    of_extraction(CLIP, share(CLIP.name, 5)),
    CLIP,
)
