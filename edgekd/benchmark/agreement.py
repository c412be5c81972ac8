"""How alike two rows draw from the same noise.

images: uint8 [H,W,3] each; features: float32 [N,D].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from edgekd.metrics.metric import Figure, Floats, Pictures, Pixels
from edgekd.report.schema import Agreement, Difference

Figures = Mapping[str, Figure | None]
# Two 8-bit pictures that differ nowhere have no finite PSNR; this stands for "identical".
PSNR_CEILING_DB = 100.0


# Wang et al.'s constants for 8 bits, and their Gaussian window: 11 pixels wide.
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_SIGMA, _RADIUS = 1.5, 5


def psnr_db(image: Pixels, reference: Pixels) -> float:
    """Peak signal-to-noise ratio of a pair, `10·log10(255² / MSE)`, at most 100 dB."""
    difference = image.astype(np.float64) - reference.astype(np.float64)
    smallest = 255.0**2 / 10 ** (PSNR_CEILING_DB / 10)
    return 10 * math.log10(255.0**2 / max(float(np.mean(difference**2)), smallest))


def ssim(image: Pixels, reference: Pixels) -> float:
    """Structural similarity of a pair, at most 1 (Wang et al., 2004, eq. 13).

    Mean over colours and pixels; pictures are mirrored at their edges, as torchmetrics does it.
    """
    from scipy.ndimage import gaussian_filter1d

    def local_mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        for axis in (0, 1):
            values = gaussian_filter1d(values, _SIGMA, axis, mode="mirror", radius=_RADIUS)
        return values

    x, y = image.astype(np.float64), reference.astype(np.float64)
    mean_x, mean_y = local_mean(x), local_mean(y)
    variances = local_mean(x * x) - mean_x**2 + local_mean(y * y) - mean_y**2
    covariance = local_mean(x * y) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    return float((similarity / ((mean_x**2 + mean_y**2 + _C1) * (variances + _C2))).mean())


def pixel_agreement(
    images: Iterable[Pixels], references: Iterable[Pixels]
) -> dict[str, npt.NDArray[np.float64]]:
    """`psnr` and `ssim` of each pair, [N]; no more than one pair is looked at a time."""
    pairs = [(psnr_db(a, b), ssim(a, b)) for a, b in zip(images, references, strict=True)]
    psnr, similarity = np.asarray(pairs, dtype=np.float64).T
    return {"psnr": psnr, "ssim": similarity}


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
    row: tuple[Pictures, Figures],
    other: tuple[Pictures, Figures],
    name: str,
    pixels: Mapping[str, npt.NDArray[np.float64]],
) -> Agreement:
    """A row's pictures and figures against those of the row `name`.

    Args:
        pixels: `pixel_agreement` of both rows' pictures.
    """
    (pictures, figures), (others, other_figures) = row, other
    return Agreement(
        row=name,
        psnr_db=float(np.median(pixels["psnr"])),
        ssim=float(np.mean(pixels["ssim"])),
        feature_cosine=float(np.mean(cosine(pictures.features, others.features))),
        differences=differences(figures, other_figures),
    )
