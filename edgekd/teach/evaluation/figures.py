"""The figures of one set of prompts: distances, retrieval, style and background.

FD and KID are of `edgekd.metrics.fid` on EfficientNet-Lite0 features. Every row
of a set (generated, real images of the same content, the same after the
autoencoder) has the same number of pictures and is held against the same
reference, since FD of finite samples is biased upwards by their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekd.metrics.caption_fit import clip_score, recall
from edgekd.metrics.extractors.scorer import Scorer
from edgekd.metrics.features import FloatArray
from edgekd.metrics.fid import fd
from edgekd.metrics.kid import kid
from edgekd.teach.data import WHITE
from edgekd.teach.evaluation.extractor import ImageExtractor, ImageFeatures
from edgekd.teach.evaluation.images import Images
from edgekd.teach.evaluation.probes import Probes
from edgekd.teach.evaluation.prompts import Prompt, PromptSet
from edgekd.teach.evaluation.schema import Distances, Retrieval, RowFigures, SetFigures, SetRows
from edgekd.teach.recipe import EvaluateSection


@dataclass(frozen=True)
class MetricTools:
    """What measures pictures."""

    extractor: ImageExtractor
    probes: Probes
    section: EvaluateSection


def distances(
    features: ImageFeatures, reference: ImageFeatures, section: EvaluateSection
) -> Distances:
    """FD and KID of as many pictures as the reference has."""
    size = min(section.kid_subset_size, len(features.pooled), len(reference.pooled))
    pair = features.pooled, reference.pooled
    mean, deviation = kid(*pair, section.kid_subsets, size, section.seed)
    return Distances(fd=fd(*pair), kid=mean, kid_standard_deviation=deviation)


def label_hits(
    features: ImageFeatures, prompts: Sequence[Prompt], gallery: Sequence[str], scorer: Scorer
) -> dict[str, FloatArray]:
    """Whether a picture finds its label among the gallery's, `r1` and `r5`, [N] each.

    The captions to choose from are the picture's own prompt with each label in turn.
    """
    place = {label: number for number, label in enumerate(gallery)}
    endings = [prompt.ending for prompt in prompts]
    hits = {name: np.zeros(len(prompts), np.float32) for name in ("r1", "r5")}
    for ending in sorted(set(endings)):
        rows = [row for row, other in enumerate(endings) if other == ending]
        texts = scorer.text_embeddings([label + ending for label in gallery])
        own = np.array([place[prompts[row].subject.label] for row in rows], np.int64)
        for name, values in recall(features.embeddings[rows] @ texts.T, own).items():
            hits[name][rows] = values
    return hits


def retrieval_figures(hits: dict[str, FloatArray], prompts: Sequence[Prompt]) -> Retrieval:
    """Means, the binomial standard error of R@1, and R@1 apart for white and other backgrounds."""
    values = hits["r1"]
    r1 = float(values.mean())
    white = np.array([prompt.background == WHITE for prompt in prompts], np.bool_)
    return Retrieval(
        r1=r1,
        r1_standard_error=math.sqrt(r1 * (1 - r1) / len(values)),
        r5=float(hits["r5"].mean()),
        r1_on_white=float(values[white].mean()) if white.any() else None,
        r1_on_colors=float(values[~white].mean()) if not white.all() else None,
    )


def own_scores(features: ImageFeatures, prompts: Sequence[Prompt], scorer: Scorer) -> FloatArray:
    """The scorer's score of each picture with its own prompt, [N]."""
    texts = scorer.text_embeddings([prompt.text for prompt in prompts])
    return clip_score(features.embeddings, texts)


def row_figures(
    images: Images, chosen: PromptSet, reference: ImageFeatures, tools: MetricTools
) -> RowFigures:
    """All figures of one row of pictures, [N,H,W,3], of a set's prompts."""
    features = tools.extractor.extract(images)
    scorer = tools.extractor.scorer
    hits = label_hits(features, chosen.prompts, chosen.gallery, scorer)
    return RowFigures(
        **dict(distances(features, reference, tools.section)),
        retrieval=retrieval_figures(hits, chosen.prompts),
        score=float(own_scores(features, chosen.prompts, scorer).mean()),
        style=tools.probes.style_figures(images, chosen.prompts),
        background=tools.probes.background_figures(images, chosen.prompts),
    )


def set_figures(
    rows: dict[str, Images], chosen: PromptSet, reference: Images, tools: MetricTools
) -> SetFigures:
    """The figures of a set of prompts.

    Args:
        rows: `generated`, `real` and `autoencoder` pictures, one for each prompt.
        reference: as many other real images.
    """
    features = tools.extractor.extract(reference)
    figures = SetRows(
        **{name: row_figures(images, chosen, features, tools) for name, images in rows.items()}
    )
    generated, real = figures.generated, figures.real
    # The scorer did not learn new labels either: real images are no ceiling.
    ceiling = chosen.kind != "new_label"
    subjects = {id(prompt.subject) for prompt in chosen.prompts}
    return SetFigures(
        prompts=len(chosen.prompts),
        pairs=len(subjects),
        reference=len(chosen.reference),
        reference_subjects=len({id(prompt.subject) for prompt in chosen.reference}),
        gallery=len(chosen.gallery),
        rows=figures,
        fd_over_autoencoder=ratio(generated.fd, figures.autoencoder.fd),
        fd_over_real=ratio(generated.fd, real.fd),
        r1_over_real=ratio(generated.retrieval.r1, real.retrieval.r1) if ceiling else None,
        r5_over_real=ratio(generated.retrieval.r5, real.retrieval.r5) if ceiling else None,
    )


def ratio(value: float, of: float) -> float | None:
    """`value / of`; None where the floor is zero."""
    return value / of if of > 0 else None
