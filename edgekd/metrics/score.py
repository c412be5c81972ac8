"""Caption score: how well pictures fit their captions; see `edgekd.metrics.clip_score`."""

from __future__ import annotations

import math

import numpy as np

from edgekd.metrics.metric import Descriptor, Figure, Metric, Pictures, Reference, of_pictures


def mean_score(pictures: Pictures, reference: Reference) -> Figure:
    """Mean and its standard error, with the n-1 estimate of the deviation."""
    del reference
    error = np.std(pictures.scores, ddof=1) / math.sqrt(len(pictures.scores))
    return Figure(
        value=float(np.mean(pictures.scores)),
        error=float(error),
        samples=[float(score) for score in pictures.scores],
    )


METRIC = Metric(
    Descriptor(
        name="score",
        label="score",
        title="Caption score",
        direction="higher",
        source="pictures",
        places=("column", "card", "summary", "plot"),
        rank=80,
        full_name="score-{scorer}-n{samples}",
        note="100 x cosine of image and caption embedding, negative values count as 0; mean ± "
        "standard error. Differences of scores pair pictures of the same caption and noise.",
    ),
    of_pictures(mean_score),
)
