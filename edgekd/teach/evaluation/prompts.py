"""What a teacher is asked to draw, and which real images its pictures are held against.

Three kinds of prompts: `known` (pairs of label and style that training saw),
`new_style` (the label was seen, in other styles) and `new_label`. Each prompt
belongs to one real image, drawn on the background that the prompt asks for.
Every choice is a pure function of data and seed, and a larger sample begins
with the smaller one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError
from edgekd.teach.data import (
    WHITE,
    Corpus,
    Pixels,
    Placement,
    Subject,
    background_phrase,
    generator,
    render,
)
from edgekd.teach.recipe import Kind, TeachRecipe

SPLITS: dict[Kind, str] = {"known": "train", "new_style": "image", "new_label": "group"}
HELD_OUT: tuple[Kind, ...] = ("new_style", "new_label")
SHEET: dict[Kind, int] = {"known": 40, "new_style": 12, "new_label": 12}
# Noise of one kind's prompts begins here; kinds and sweep share none.
_FIRST_NOISE = {"known": 0, "new_style": 10**6, "new_label": 2 * 10**6, "sweep": 3 * 10**6}
SHEET_NOISE = 4 * 10**6


@dataclass(frozen=True)
class Prompt:
    """A caption to draw, and the real image of the same content.

    Attributes:
        named: the caption says the background; else nothing is said, and white is meant.
        noise: index of the initial noise.
    """

    subject: Subject
    background: str
    named: bool
    noise: int

    @property
    def text(self) -> str:
        return self.subject.label + self.ending

    @property
    def ending(self) -> str:
        """The caption behind the label."""
        ending = f", {self.subject.style} style"
        return f"{ending}, {background_phrase(self.background)}" if self.named else ending

    def real(self, recipe: TeachRecipe) -> Pixels:
        return render(self.subject, Placement(self.background), recipe.data.augment.backgrounds)


@dataclass(frozen=True)
class PromptSet:
    """The prompts of one kind, the real images that belong to them, and others to measure against.

    Attributes:
        reference: held-out images, as many as prompts, none of which belongs to a prompt.
        gallery: labels among which retrieval chooses; every prompt's label is one of them.
    """

    kind: Kind
    prompts: list[Prompt]
    reference: list[Prompt]
    gallery: list[str]

    def real_images(self, recipe: TeachRecipe) -> npt.NDArray[np.uint8]:
        return np.stack([prompt.real(recipe) for prompt in self.prompts])

    def reference_images(self, recipe: TeachRecipe) -> npt.NDArray[np.uint8]:
        return np.stack([prompt.real(recipe) for prompt in self.reference])


def check_corpus(corpus: Corpus, recipe: TeachRecipe) -> None:
    """Refuse data whose captions cannot be measured.

    Raises:
        InputError: fewer than two styles or no colour for backgrounds, a kind of held-out
            image that is missing or has no transparent pixels.
    """
    styles = {subject.style for subject in corpus.train}
    prompted = set(known_labels(corpus, recipe))
    others = [subject for subject in corpus.train if subject.label not in prompted]
    left = sorted({subject.style for subject in others})
    labels = recipe.evaluate.labels
    _require(
        len(styles) >= 2 and "" not in styles,
        "the evaluation needs images with a `label` and a `style`, of two styles or more",
        f"styles {sorted(styles)}",
    )
    _require(
        bool(recipe.data.augment.backgrounds) and any(s.transparent for s in corpus.train),
        "the evaluation needs `data.augment.backgrounds` and images with transparent pixels",
        "none",
    )
    _require(
        left == sorted(styles),
        "`evaluate.labels` must leave training labels of every style to fit the probes on",
        f"{labels}, which leaves styles {left}",
    )
    _require(
        any(s.transparent for s in others),
        "`evaluate.labels` must leave images with transparent pixels to fit the probes on",
        f"{labels}, which leaves none",
    )
    for kind in HELD_OUT:
        held_out = [s for s in of_kind(corpus, kind) if s.style in styles]
        split = f"`holdout: {SPLITS[kind]}`"
        _require(
            len(held_out) >= 2,
            f"the evaluation needs two held-out images or more of {split}",
            str(len(held_out)),
        )
        _require(
            any(s.transparent for s in held_out),
            f"the evaluation needs transparent pixels in a held-out image of {split}",
            "none",
        )


def _require(holds: bool, rule: str, found: str) -> None:
    if not holds:
        raise InputError(rule, found)


def of_kind(corpus: Corpus, kind: Kind) -> list[Subject]:
    """The subjects on one side of the split."""
    side = corpus.train if kind == "known" else corpus.validation
    return [subject for subject in side if subject.split == SPLITS[kind]]


def shuffled(seed: int, purpose: str, items: list[Any]) -> list[Any]:
    """All items in an order that only seed and purpose decide."""
    return [items[int(i)] for i in generator(seed, purpose).permutation(len(items))]


def known_labels(corpus: Corpus, recipe: TeachRecipe) -> list[str]:
    """The labels of the `known` prompts: a fixed choice."""
    labels = sorted({subject.label for subject in corpus.train})
    section = recipe.evaluate
    return list(shuffled(section.seed, "evaluate-labels", labels)[: section.labels])


def make_prompts(
    subjects: list[Subject], recipe: TeachRecipe, purpose: str, count: int, first_noise: int
) -> list[Prompt]:
    """`count` prompts that go round these subjects, each time in another order.

    Backgrounds are drawn as training draws them; coloured ones are always named,
    white ones as often as training names them.
    """
    seed, prompts = recipe.evaluate.seed, []
    for number in range(count):
        turn, place = divmod(number, len(subjects))
        if place == 0:
            order = generator(seed, purpose, turn).permutation(len(subjects))
        subject = subjects[int(order[place])]
        rng = generator(seed, f"{purpose}-background", number)
        background, named = _background(subject, recipe, rng)
        prompts.append(Prompt(subject, background, named, first_noise + number))
    return prompts


def _background(
    subject: Subject, recipe: TeachRecipe, rng: np.random.Generator
) -> tuple[str, bool]:
    white, say = rng.random(2)
    if not subject.transparent:
        return WHITE, False
    if white >= recipe.data.augment.white_fraction:
        return str(rng.choice(sorted(recipe.data.augment.backgrounds))), True
    return WHITE, bool(say < recipe.data.captions.say_white)


def known_set(corpus: Corpus, recipe: TeachRecipe) -> PromptSet:
    """Prompts of pairs in training; the reference are all held-out images."""
    return _trained_set(corpus, recipe, "known", recipe.evaluate.samples)


def sweep_set(corpus: Corpus, recipe: TeachRecipe) -> PromptSet:
    """As `known_set`, with other draws of prompts and noise: guidance is chosen on these."""
    return _trained_set(corpus, recipe, "sweep", recipe.evaluate.sweep_samples)


def _trained_set(corpus: Corpus, recipe: TeachRecipe, name: str, count: int) -> PromptSet:
    gallery = known_labels(corpus, recipe)
    subjects = [subject for subject in corpus.train if subject.label in set(gallery)]
    prompts = make_prompts(subjects, recipe, f"evaluate-{name}", count, _FIRST_NOISE[name])
    reference = make_prompts(corpus.validation, recipe, f"reference-{name}", count, 0)
    return PromptSet("known", prompts, reference, gallery)


def held_out_set(corpus: Corpus, recipe: TeachRecipe, kind: Kind) -> PromptSet:
    """Prompts of one half of the held-out images of a kind; the other half is the reference."""
    section = recipe.evaluate
    subjects = shuffled(section.seed, f"halves-{kind}", of_kind(corpus, kind))
    half = len(subjects) // 2
    count = section.heldout_samples
    prompts = make_prompts(subjects[:half], recipe, f"evaluate-{kind}", count, _FIRST_NOISE[kind])
    reference = make_prompts(subjects[half:], recipe, f"reference-{kind}", count, 0)
    return PromptSet(kind, prompts, reference, _filled_gallery(corpus, recipe, kind, prompts))


def _filled_gallery(
    corpus: Corpus, recipe: TeachRecipe, kind: Kind, prompts: list[Prompt]
) -> list[str]:
    """The prompts' labels and others by lot up to `labels`, so that chance is the same."""
    section = recipe.evaluate
    own = list(dict.fromkeys(prompt.subject.label for prompt in prompts))
    others = sorted({s.label for s in [*corpus.train, *corpus.validation]} - set(own))
    filled = own + shuffled(section.seed, f"gallery-{kind}", others)
    return list(filled[: max(section.labels, len(own))])


def choose_sheet(corpus: Corpus, recipe: TeachRecipe) -> dict[Kind, list[str]]:
    """The rule of the sample sheet: 64 prompts, 12 of new styles and 12 of new labels among them.

    Subjects by lot, no label twice; styles take turns, so that each comes as often as
    another; every second prompt asks for a coloured background, the colours by turns.
    """
    colors = sorted(recipe.data.augment.backgrounds)
    sheet: dict[Kind, list[str]] = {}
    for kind, count in SHEET.items():
        rows = _by_turns(shuffled(recipe.evaluate.seed, f"sheet-{kind}", of_kind(corpus, kind)))
        prompts = []
        for number, subject in enumerate(rows[:count]):
            colored = number % 2 == 1 and subject.transparent
            background = colors[number // 2 % len(colors)] if colored else WHITE
            prompts.append(Prompt(subject, background, colored, 0).text)
        sheet[kind] = prompts
    return sheet


def _by_turns(subjects: list[Subject]) -> list[Subject]:
    """Subjects of different labels, the styles in turns, otherwise in the order given."""
    waiting: dict[str, list[Subject]] = {}
    for subject in subjects:
        waiting.setdefault(subject.style, []).append(subject)
    result: list[Subject] = []
    seen: set[str] = set()
    while any(waiting.values()):
        for style in sorted(waiting):
            fresh = [subject for subject in waiting[style] if subject.label not in seen]
            waiting[style] = fresh[1:]
            if fresh:
                result.append(fresh[0])
                seen.add(fresh[0].label)
    return result
