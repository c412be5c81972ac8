from collections import Counter
from dataclasses import replace

import pytest

from edgekd.errors import InputError
from edgekd.teach.data import WHITE, Corpus
from edgekd.teach.evaluation.pictures import picture_requests
from edgekd.teach.evaluation.prompts import (
    HELD_OUT,
    check_corpus,
    held_out_set,
    known_labels,
    known_set,
    sweep_set,
)
from edgekd.teach.recipe import TeachRecipe


def with_section(recipe: TeachRecipe, **changes: object) -> TeachRecipe:
    section = recipe.evaluate.model_copy(update=changes)
    return recipe.model_copy(update={"evaluate": section})


def test_known_prompts_are_pairs_of_training_and_the_reference_is_held_out(corpus, recipe):
    chosen = known_set(corpus, recipe)
    assert len(chosen.prompts) == len(chosen.reference) == 24
    assert {p.subject.split for p in chosen.prompts} == {"train"}
    assert {p.subject.split for p in chosen.reference} == {"image", "group"}
    assert len(chosen.gallery) == len(set(chosen.gallery)) == 12
    assert {p.subject.label for p in chosen.prompts} <= set(chosen.gallery)


@pytest.mark.parametrize("kind", HELD_OUT)
def test_held_out_content_and_reference_share_no_image(corpus, recipe, kind):
    chosen = held_out_set(corpus, recipe, kind)  # type: ignore[arg-type]
    content = {id(p.subject) for p in chosen.prompts}
    reference = {id(p.subject) for p in chosen.reference}
    assert content
    assert reference
    assert not content & reference
    known = {subject.label for subject in corpus.train}
    labels = {p.subject.label for p in chosen.prompts}
    assert labels <= known if kind == "new_style" else not labels & known
    assert labels <= set(chosen.gallery)
    assert len(set(chosen.gallery)) == len(chosen.gallery) == max(12, len(labels))


def test_a_larger_sample_begins_with_the_smaller_one(corpus, recipe):
    small = known_set(corpus, recipe)
    large = known_set(corpus, with_section(recipe, samples=100))
    assert picture_requests(large.prompts)[:24] == picture_requests(small.prompts)
    other = known_set(corpus, with_section(recipe, samples=100, seed=1))
    assert picture_requests(large.prompts) != picture_requests(other.prompts)


def test_no_two_pictures_share_noise(corpus, recipe):
    sets = [known_set(corpus, recipe), sweep_set(corpus, recipe)]
    sets += [held_out_set(corpus, recipe, kind) for kind in HELD_OUT]
    noise = [prompt.noise for chosen in sets for prompt in chosen.prompts]
    assert len(noise) == len(set(noise))


def test_colours_are_always_named_and_white_sometimes(corpus, recipe):
    prompts = known_set(corpus, with_section(recipe, samples=400)).prompts
    colored = [p for p in prompts if p.background != WHITE]
    assert 0.4 < len(colored) / 400 < 0.6
    assert all(p.named and f"{p.background} background" in p.text for p in colored)
    white = Counter(p.named for p in prompts if p.background == WHITE)
    assert 0.2 < white[True] / sum(white.values()) < 0.4
    assert all("background" not in p.text for p in prompts if not p.named)


def test_the_real_image_is_what_the_prompt_says(corpus, recipe):
    chosen = known_set(corpus, recipe)
    prompt = next(p for p in chosen.prompts if p.background == "blue")
    assert prompt.text.startswith(f"{prompt.subject.label}, {prompt.subject.style} style, on a")
    assert tuple(prompt.real(recipe)[0, 0]) == (0x1E, 0x88, 0xE5)
    assert chosen.real_images(recipe).shape == (24, 32, 32, 3)


def test_data_without_styles_are_refused(corpus, recipe):
    bare = Corpus([replace(s, style="") for s in corpus.train], corpus.validation, "")
    with pytest.raises(InputError, match="a `label` and a `style`"):
        check_corpus(bare, recipe)


def test_data_without_a_held_out_kind_are_refused(corpus, recipe):
    one_kind = [s for s in corpus.validation if s.split == "image"]
    with pytest.raises(InputError, match="holdout: group"):
        check_corpus(Corpus(corpus.train, one_kind, ""), recipe)


def test_opaque_images_are_refused(corpus, recipe):
    opaque = [replace(s, transparent=False) for s in corpus.train]
    with pytest.raises(InputError, match="transparent"):
        check_corpus(Corpus(opaque, corpus.validation, ""), recipe)
    for kind in ("image", "group"):
        held_out = [replace(s, transparent=s.split != kind) for s in corpus.validation]
        with pytest.raises(InputError, match=f"transparent pixels in a held-out .*{kind}"):
            check_corpus(Corpus(corpus.train, held_out, ""), recipe)
    asked = known_labels(corpus, recipe)
    known = [replace(s, transparent=s.label in asked) for s in corpus.train]
    with pytest.raises(InputError, match="must leave images with transparent pixels"):
        check_corpus(Corpus(known, corpus.validation, ""), recipe)


def test_labels_must_be_left_for_the_probes(corpus, recipe):
    with pytest.raises(InputError, match="leave training labels of every style"):
        check_corpus(corpus, with_section(recipe, labels=100))
