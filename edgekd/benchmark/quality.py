"""Quality of one row's pictures: against real images, captions, and the teacher's pictures.

images: uint8 [N,H,W,3]; features: float32 [N,D].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgekd.artifacts import hash_tree
from edgekd.benchmark.prompts import Images
from edgekd.benchmark.suite import QualitySection
from edgekd.errors import GateError
from edgekd.resources import STARTER

Floats = npt.NDArray[np.float32]
Names = dict[str, str]
# Two 8-bit pictures that differ nowhere have no finite PSNR; this stands for "identical".
PSNR_CEILING_DB = 100.0


class Judge(Protocol):
    """What turns pictures into figures; `MetricsJudge` is the real one."""

    extractor: str
    scorer: str
    key: str

    def features(self, images: Images) -> Floats:
        """Features [N,D] of images."""

    def scores(self, images: Images, captions: Sequence[str]) -> Floats:
        """Agreement of image and caption of each pair."""

    def fd(self, generated: Floats, reference: Floats) -> float:
        """Fréchet distance between two sets of features."""

    def kid(
        self, generated: Floats, reference: Floats, subsets: int, subset_size: int, seed: int
    ) -> tuple[float, float]:
        """Kernel inception distance: mean and standard deviation over subsets."""


class MetricsJudge:
    """The offline scorers that ship with edgekd (`edgekd.metrics`).

    Attributes:
        extractor, scorer: names, part of the metrics' names.
        key: hash of their files.
    """

    def __init__(self) -> None:
        from edgekd.metrics.clip_score import Scorer
        from edgekd.metrics.features import FeatureExtractor

        self._extract = FeatureExtractor()
        self._scorer = Scorer(extractor=self._extract)
        self.extractor = str(self._extract.name)
        self.scorer = str(self._scorer.name)
        self.key = hash_tree(STARTER / "scorers")

    def features(self, images: Images) -> Floats:
        return np.asarray(self._extract(images), dtype=np.float32)

    def scores(self, images: Images, captions: Sequence[str]) -> Floats:
        return np.asarray(self._scorer.score(images, list(captions)), dtype=np.float32)

    def fd(self, generated: Floats, reference: Floats) -> float:
        from edgekd.metrics.fid import fd

        return float(fd(generated, reference))

    def kid(
        self, generated: Floats, reference: Floats, subsets: int, subset_size: int, seed: int
    ) -> tuple[float, float]:
        from edgekd.metrics.fid import kid

        mean, deviation = kid(generated, reference, subsets, subset_size, seed)
        return float(mean), float(deviation)


@dataclass(frozen=True)
class Pictures:
    """A row's pictures and what the judge saw in them."""

    images: Images
    features: Floats
    scores: Floats


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


def standard_error(values: npt.NDArray[Any]) -> float:
    """Standard error of the mean, with the n-1 estimate of the deviation."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


def agreement(pictures: Pictures, other: Pictures) -> dict[str, float]:
    """How alike two rows draw from the same noise: pixels, features, and paired scores."""
    difference = pictures.scores - other.scores
    return {
        "psnr_db": float(np.median(psnr_db(pictures.images, other.images))),
        "feature_cosine": float(np.mean(cosine(pictures.features, other.features))),
        "score_difference": float(np.mean(difference)),
        "score_difference_standard_error": standard_error(difference),
    }


def measure_quality(
    judge: Judge,
    pictures: Pictures,
    reference: Floats,
    section: QualitySection,
) -> dict[str, Any]:
    """FD, KID and score of a row.

    Args:
        reference: features of real images that are not prompts.
        section: seed and KID's subsets; their size is reduced to the smaller of the two sets.
    """
    size = min(section.kid_subset_size, len(pictures.features), len(reference))
    kid, deviation = judge.kid(
        pictures.features, reference, section.kid_subsets, size, section.seed
    )
    return {
        "fd": judge.fd(pictures.features, reference),
        "kid": kid,
        "kid_standard_deviation": deviation,
        "score": float(np.mean(pictures.scores)),
        "score_standard_error": standard_error(pictures.scores),
        "scores": [float(score) for score in pictures.scores],
    }


def metric_names(judge: Judge, samples: int, reference: int, section: QualitySection) -> Names:
    """Full names: a distance without extractor and sample counts says nothing."""
    from edgekd.metrics.fid import fd_name, kid_name

    size = min(section.kid_subset_size, samples, reference)
    return {
        "fd": fd_name(judge.extractor, samples),
        "kid": kid_name(judge.extractor, samples, section.kid_subsets, size),
        "score": f"score-{judge.scorer}-n{samples}",
    }


def check_finite(row: str, figures: dict[str, Any]) -> None:
    """Gate: a metric that is NaN or infinite is a failure, not a figure.

    Raises:
        GateError: names the row and the metric.
    """
    for name, value in figures.items():
        if isinstance(value, dict):
            check_finite(row, {f"{name}.{inner}": v for inner, v in value.items()})
            continue
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise GateError("every metric must be finite", f"`{name}` of `{row}` is {number}")
