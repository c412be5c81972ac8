"""Caption score by the shipped scorer; see `edgekd.metrics.caption_fit`."""

from __future__ import annotations

import math

import numpy as np

from edgekd.metrics.bootstrap import mean_interval
from edgekd.metrics.metric import (
    Descriptor,
    Figure,
    Floats,
    Metric,
    Pictures,
    Reference,
    of_pictures,
)


def mean_figure(samples: Floats, seed: int) -> Figure:
    """Mean of one value for each picture, its standard error by the n-1 estimate, its interval."""
    low, high = mean_interval(samples, seed)
    return Figure(
        value=float(np.mean(samples)),
        error=float(np.std(samples, ddof=1) / math.sqrt(len(samples))),
        low=low,
        high=high,
        samples=[float(sample) for sample in samples],
    )


def mean_score(pictures: Pictures, reference: Reference) -> Figure:
    return mean_figure(pictures.scores, reference.seed)


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
        "standard error, 95 % interval by bootstrap over pictures. Differences of scores pair "
        "pictures of the same caption and noise.",
    ),
    of_pictures(mean_score),
)
