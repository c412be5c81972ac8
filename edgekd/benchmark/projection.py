"""Features of real and drawn pictures in two dimensions, to look at only."""

from __future__ import annotations

import numpy as np

from edgekd.metrics.metric import Floats
from edgekd.report.schema import Projection

REFERENCE = "reference images"
MAX_REFERENCE = 400
_DECIMALS = 3


def project(sets: dict[str, Floats], reference: Floats, seed: int) -> Projection:
    """t-SNE of all sets together with reference images; PCA where there are too few."""
    from edgekd.metrics.embeddings import MIN_TSNE_SAMPLES, pca, project_together, tsne

    chosen = np.random.default_rng(seed).permutation(len(reference))[:MAX_REFERENCE]
    together = {REFERENCE: reference[np.sort(chosen)], **sets}
    total = sum(len(features) for features in together.values())
    if total >= max(4 * MIN_TSNE_SAMPLES, 50):
        method, points = "t-SNE", project_together(together, lambda x: tsne(x, seed))
    else:
        method, points = "PCA", project_together(together, lambda x: pca(x).points)
    return Projection(
        method=method,
        points={name: np.round(xy, _DECIMALS).tolist() for name, xy in points.items()},
    )
