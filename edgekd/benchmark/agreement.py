"""How alike two rows draw from the same noise.

images: uint8 [N,H,W,3]; features: float32 [N,D].
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from edgekd.metrics.metric import Figure, Floats, Images, Pictures
from edgekd.report.schema import Agreement, Difference

Figures = Mapping[str, Figure | None]
# Two 8-bit pictures that differ nowhere have no finite PSNR; this stands for "identical".
PSNR_CEILING_DB = 100.0


def psnr_db(images: Images, reference: Images) -> Floats:
    """Peak signal-to-noise ratio of each pair [N], `10·log10(255² / MSE)`, at most 100 dB."""
    difference = images.astype(np.float64) - reference.astype(np.float64)
    mse = np.mean(difference**2, axis=(1, 2, 3))
    smallest = 255.0**2 / 10 ** (PSNR_CEILING_DB / 10)
    return np.asarray(10 * np.log10(255.0**2 / np.maximum(mse, smallest)), dtype=np.float32)


def cosine(a: Floats, b: Floats) -> Floats:
    """Cosine similarity of paired rows [N]; zero vectors agree with nothing."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    return np.asarray((a64 * b64).sum(axis=1) / np.maximum(norms, 1e-12), dtype=np.float32)


def differences(figures: Figures, others: Figures) -> dict[str, Difference]:
    """Paired differences of every metric that has a value for each picture.

    They are far more certain than the difference of two means.
    """
    found = {}
    for name, figure in figures.items():
        other = others.get(name)
        if figure is None or other is None or figure.samples is None or other.samples is None:
            continue
        pairs = np.asarray(figure.samples) - np.asarray(other.samples)
        error = np.std(pairs, ddof=1) / math.sqrt(len(pairs))
        found[name] = Difference(value=float(np.mean(pairs)), error=float(error))
    return found


def agreement(
    row: tuple[Pictures, Figures], other: tuple[Pictures, Figures], name: str
) -> Agreement:
    """A row's pictures and figures against those of the row `name`."""
    (pictures, figures), (others, other_figures) = row, other
    return Agreement(
        row=name,
        psnr_db=float(np.median(psnr_db(pictures.images, others.images))),
        feature_cosine=float(np.mean(cosine(pictures.features, others.features))),
        differences=differences(figures, other_figures),
    )
