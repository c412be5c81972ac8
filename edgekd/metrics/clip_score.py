"""CLIP score with the user's CLIP (Hessel et al., 2021, arXiv:2104.08718).

`100 * max(cos(image, caption), 0)`, with the factor 100 of torchmetrics.
"""

from __future__ import annotations

from edgekd.metrics.caption_fit import clip_score, halves
from edgekd.metrics.extractors.clip import CLIP
from edgekd.metrics.metric import Descriptor, Figure, Metric, Pictures, Reference, of_extraction
from edgekd.metrics.score import mean_figure


def mean_score(pictures: Pictures, reference: Reference) -> Figure:
    return mean_figure(clip_score(*halves(pictures.extracted[CLIP.name])), reference.seed)


METRIC = Metric(
    Descriptor(
        name="clip_score",
        label="CLIP score",
        title="CLIP score",
        direction="higher",
        source="pictures",
        places=("column", "card", "summary", "plot"),
        rank=85,
        full_name="CLIP-score-{clip}-n{samples}",
        note="100 x cosine of the CLIP's image and caption embedding, negative values count as 0; "
        "mean ± standard error, 95 % interval by bootstrap over pictures.",
    ),
    of_extraction(CLIP, mean_score),
    CLIP,
)
