"""Held-out figures of the starter's extractor and scorer.

`python -m tools.starter.evaluate_scorers [--write]` runs the shipped files on the validation side
of the split and prints tables; `--write` puts them between the `figures` markers of
`scorers/FEATURES_CARD.md` and `scorers/SCORER_CARD.md`.
Held out "image": other renderings of the label were in training. Held out "group": the label was
not. Nothing was chosen by these figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from edgekd.errors import InputError
from edgekd.files import write_text
from edgekd.metrics.caption_fit import clip_score, normalise, retrieval
from edgekd.metrics.extractors.scorer import Scorer
from edgekd.metrics.features import FeatureExtractor, FloatArray, Pixels
from edgekd.metrics.fid import fd
from edgekd.resources import STARTER
from edgekd.teach.data import (
    WHITE,
    Corpus,
    Placement,
    Subject,
    background_phrase,
    load_corpus,
    plain_caption,
    render,
)
from edgekd.teach.recipe import TeachDataSection

CARDS = STARTER / "scorers"
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
NOISE = (0, 8, 16, 32, 64)
BLUR_PX = (0, 1, 2, 4)


@dataclass(frozen=True)
class HeldOut:
    """Subjects of one kind of validation, drawn on white."""

    subjects: list[Subject]
    images: list[Pixels]
    captions: list[str]


def held_out(corpus: Corpus, kind: str) -> HeldOut:
    subjects = [s for s in corpus.validation if s.split == kind]
    images = [render(s, Placement(WHITE), {}) for s in subjects]
    return HeldOut(subjects, images, [plain_caption(s) for s in subjects])


def with_noise(images: Sequence[Pixels], deviation: float) -> list[Pixels]:
    """Normal noise with a standard deviation in grey levels."""
    rng = np.random.default_rng(0)
    return [
        (image + deviation * rng.normal(size=image.shape)).round().clip(0, 255).astype(np.uint8)
        for image in images
    ]


def with_blur(images: Sequence[Pixels], radius_px: float) -> list[Pixels]:
    blur = ImageFilter.GaussianBlur(radius_px)
    return [np.asarray(Image.fromarray(image).filter(blur), dtype=np.uint8) for image in images]


def cross_style_retrieval(features: FloatArray, subjects: Sequence[Subject]) -> dict[str, float]:
    """Share of images whose nearest image(s) of another style (one, five) show its label."""
    unit = normalise(features - features.mean(axis=0))
    styles = np.array([s.style for s in subjects])
    labels = np.array([s.label for s in subjects])
    similarity = np.where(styles[:, None] == styles[None], -np.inf, unit @ unit.T)
    nearest = np.argsort(-similarity, axis=1)[:, :5]
    hits = labels[nearest] == labels[:, None]
    return {"r1": float(hits[:, 0].mean()), "r5": float(hits.any(axis=1).mean())}


def choice_accuracy(
    scorer: Scorer, images: FloatArray, captions: list[list[str]], truth: Sequence[int]
) -> float:
    """Share of images [N,D] whose best caption of C is the true one; captions: N lists of C."""
    flat = scorer.text_embeddings([caption for row in captions for caption in row])
    texts = flat.reshape(len(captions), len(captions[0]), -1)
    chosen = np.einsum("nd,ncd->nc", images, texts).argmax(axis=1)
    return float((chosen == np.array(truth)).mean())


def style_accuracy(scorer: Scorer, data: HeldOut, images: FloatArray, styles: list[str]) -> float:
    captions = [[f"{s.label}, {style} style" for style in styles] for s in data.subjects]
    return choice_accuracy(scorer, images, captions, [styles.index(s.style) for s in data.subjects])


def background_accuracy(scorer: Scorer, data: HeldOut, colors: dict[str, str]) -> float:
    """Each transparent subject on a colour drawn by lot; captions differ in the colour only."""
    names = [WHITE, *sorted(colors)]
    subjects = [s for s in data.subjects if s.transparent]
    truth = np.random.default_rng(0).integers(0, len(names), len(subjects)).tolist()
    images = [render(s, Placement(names[t]), colors) for s, t in zip(subjects, truth, strict=True)]
    captions = [[f"{plain_caption(s)}, {background_phrase(n)}" for n in names] for s in subjects]
    return choice_accuracy(scorer, scorer.image_embeddings(images), captions, truth)


def separation(images: FloatArray, texts: FloatArray, subjects: Sequence[Subject]) -> float:
    """AUC: chance that a matching pair scores above a pair of different labels."""
    similarity = images @ texts.T
    labels = np.array([s.label for s in subjects])
    matched = np.diagonal(similarity)
    others = np.sort(similarity[labels[:, None] != labels[None]])
    return float(np.searchsorted(others, matched).mean() / len(others))


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def features_figures(corpus: Corpus) -> str:
    """Tables of FEATURES_CARD.md."""
    extractor = FeatureExtractor()
    group = held_out(corpus, "group")
    result = cross_style_retrieval(extractor(group.images), group.subjects)
    count, labels = len(group.images), len({s.label for s in group.subjects})
    retrieved = table(
        ["cross-style retrieval", "R@1", "R@5"],
        [[f"{count} images, {labels} unseen labels", percent(result["r1"]), percent(result["r5"])]],
    )
    images = held_out(corpus, "image").images
    half, reference = images[::2], extractor(images[1::2])

    def row(
        name: str, damage: Callable[[Sequence[Pixels], float], list[Pixels]], steps: tuple[int, ...]
    ) -> str:
        values = [f"{fd(extractor(damage(half, step)), reference):.1f}" for step in steps]
        return table([name, *map(str, steps)], [["FD", *values]])

    sizes = f"FD between {len(half)} and {len(reference)} held-out images, the first set damaged:"
    noise = row("noise (standard deviation, grey levels)", with_noise, NOISE)
    return "\n\n".join([retrieved, sizes, noise, row("blur (radius, pixels)", with_blur, BLUR_PX)])


def scorer_figures(corpus: Corpus, colors: dict[str, str]) -> str:
    """Tables of SCORER_CARD.md."""
    scorer = Scorer()
    styles = sorted({s.style for s in corpus.train})
    rows, scores = [], []
    for kind, name in (("image", "unseen images of known labels"), ("group", "unseen labels")):
        data = held_out(corpus, kind)
        images, texts = scorer.image_embeddings(data.images), scorer.text_embeddings(data.captions)
        both = (retrieval(images, texts), retrieval(texts, images))
        shares = [float(hits[rank].mean()) for hits in both for rank in ("r1", "r5")]
        shares.append(style_accuracy(scorer, data, images, styles))
        shares.append(background_accuracy(scorer, data, colors))
        auc = separation(images, texts, data.subjects)
        rows.append([name, str(len(images)), *map(percent, shares), f"{auc:.3f}"])
        scores.append(_score_row(scorer, name, data, texts))
    header = ["held out", "N", "image to text R@1", "R@5", "text to image R@1", "R@5"]
    held = table(
        [*header, f"style, 1 of {len(styles)}", f"background, 1 of {len(colors) + 1}", "AUC"], rows
    )
    names = [f"noise {n}" for n in NOISE[1:]] + [f"blur {b} px" for b in BLUR_PX[1:]]
    return "\n\n".join(
        [held, "Mean score:", table(["held out", "clean", "captions shuffled", *names], scores)]
    )


def _score_row(scorer: Scorer, name: str, data: HeldOut, texts: FloatArray) -> list[str]:
    shuffled = texts[np.random.default_rng(0).permutation(len(texts))]
    clean = scorer.image_embeddings(data.images)
    means = [clip_score(clean, texts).mean(), clip_score(clean, shuffled).mean()]
    for damage, steps in ((with_noise, NOISE[1:]), (with_blur, BLUR_PX[1:])):
        for step in steps:
            damaged = scorer.image_embeddings(damage(data.images, step))
            means.append(clip_score(damaged, texts).mean())
    return [name, *(f"{mean:.1f}" for mean in means)]


def insert(card: Path, figures: str) -> None:
    """Replace what stands between the card's markers.

    Raises:
        InputError: the card has no markers.
    """
    text = card.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise InputError(f"the card must have `{BEGIN}` and `{END}`", str(card))
    write_text(card, f"{head}{BEGIN}\n{figures}\n{END}{tail}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Held-out figures of the starter's scorers.")
    parser.add_argument("--write", action="store_true", help="put the tables into the cards")
    write: bool = parser.parse_args().write
    section = TeachDataSection()
    corpus = load_corpus(section)
    for card, figures in (
        ("FEATURES_CARD.md", features_figures(corpus)),
        ("SCORER_CARD.md", scorer_figures(corpus, section.augment.backgrounds)),
    ):
        print(f"{card}\n\n{figures}\n")
        if write:
            insert(CARDS / card, figures)


if __name__ == "__main__":
    main()
