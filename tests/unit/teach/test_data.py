"""Captioned renderings: stateless, true to their captions, never held-out ones."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from edgekd.errors import InputError
from edgekd.teach.data import (
    Placement,
    Subject,
    background_phrase,
    cached_variant,
    draw_caption,
    draw_variant,
    generator,
    load_corpus,
    render,
    sample_indices,
)
from edgekd.teach.recipe import PALETTE, AugmentSection, CaptionSection, TeachDataSection


def subject(label="red apple", transparent=True, tags=("fruit", "health", "snack")):
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[4:12, 4:8] = (255, 0, 0, 255)
    if not transparent:
        pixels[..., 3] = 255
    return Subject(pixels, label, "3d", tags, transparent, "train")


def test_opaque_images_without_labels(tmp_path):
    for number in range(40):
        Image.new("RGB", (40, 20), (number, 0, 0)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(f"a field, number {number}")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    (tmp_path / "broken.txt").write_text("nothing")
    section = TeachDataSection(sources=[str(tmp_path)], resolution=16)
    corpus = load_corpus(section)
    assert len(corpus.train) + len(corpus.validation) == 40
    one = corpus.train[0]
    assert not one.transparent
    assert one.pixels.shape == (16, 16, 4)
    variant = draw_variant(one, AugmentSection(white_fraction=0), generator(0, "t"))
    assert variant.background == "white"
    sure = CaptionSection(say_white=1)
    # An opaque picture has its own background, of which nothing is known.
    assert draw_caption(one, "white", sure, generator(0, "t")).text == one.label


def test_what_is_known_of_an_image_is_in_the_key(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rows = []
    for number in range(40):
        image = Image.new("P", (16, 16), 0)
        image.putpalette([number, 0, 0, 1, 1, 1])
        image.save(folder / f"{number}.png", transparency=0)
        known = {"label": f"thing {number}", "style": "flat", "tags": "a, b"}
        rows.append({"file_name": f"{number}.png", "text": f"thing {number}", **known})
    section = TeachDataSection(sources=[str(folder)], resolution=16)

    def load(**changes):
        lines = [json.dumps({**row, **(changes if n == 0 else {})}) for n, row in enumerate(rows)]
        (folder / "metadata.jsonl").write_text("\n".join(lines))
        return load_corpus(section)

    corpus = load()
    assert all(s.transparent for s in corpus.train)
    assert corpus.key == load().key
    keys = {load(**{name: "other"}).key for name in ("label", "style", "tags")}
    assert len(keys | {corpus.key}) == 4


def test_nothing_for_validation_is_an_error(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    (tmp_path / "a.txt").write_text("black")
    with pytest.raises(InputError, match="for training and for validation"):
        load_corpus(TeachDataSection(sources=[str(tmp_path)], resolution=16))


def test_an_epoch_is_a_permutation_and_positions_need_no_history():
    order = sample_indices(0, "unet", np.arange(20), 10)
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    assert list(order[:10]) != list(order[10:])
    assert list(sample_indices(0, "unet", np.arange(7, 13), 10)) == list(order[7:13])
    assert list(sample_indices(1, "unet", np.arange(10), 10)) != list(order[:10])


def test_render_puts_the_background_under_transparent_pixels_only():
    image = render(subject(), Placement("blue"), PALETTE)
    assert tuple(image[0, 0]) == (0x1E, 0x88, 0xE5)
    assert tuple(image[6, 6]) == (255, 0, 0)
    assert tuple(render(subject(), Placement("white"), PALETTE)[0, 0]) == (255, 255, 255)


def test_render_shift_scale_flip():
    shifted = render(subject(), Placement("white", shift=(2, 3)), PALETTE)
    plain = render(subject(), Placement("white"), PALETTE)
    assert np.array_equal(shifted[2:, 3:], plain[:-2, :-3])
    assert np.array_equal(render(subject(), Placement("white", flip=True), PALETTE), plain[:, ::-1])
    small = render(subject(), Placement("white", scale=0.5), PALETTE)
    red = (plain[..., 1] < 128).sum(), (small[..., 1] < 128).sum()
    assert red[1] == pytest.approx(red[0] / 4, rel=0.3)
    # An opaque picture has no background to show: its rim is continued.
    grey = Subject(
        np.full((16, 16, 4), (90, 90, 90, 255), np.uint8), "wall", "", (), False, "train"
    )
    assert (render(grey, Placement("white", (3, -3), 0.8), PALETTE) == 90).all()


def test_variants_follow_the_section():
    section = AugmentSection(white_fraction=0.5, jitter_fraction=0.5, flip_fraction=0.5)
    drawn = [draw_variant(subject(), section, generator(0, "t", n)) for n in range(400)]
    assert 0.4 < np.mean([v.background == "white" for v in drawn]) < 0.6
    assert {v.background for v in drawn} == {"white", *PALETTE}
    assert 0.4 < np.mean([v.flip for v in drawn]) < 0.6
    assert 0.35 < np.mean([v.scale != 1 for v in drawn]) < 0.65
    clock = subject("alarm clock")
    assert not any(draw_variant(clock, section, generator(0, "t", n)).flip for n in range(50))
    first = cached_variant(subject(), section, 0, 7, 0)
    assert first == Placement("white")
    assert cached_variant(subject(), section, 0, 7, 3) == cached_variant(
        subject(), section, 0, 7, 3
    )


def test_captions_say_what_is_shown():
    section = CaptionSection()
    drawn = [draw_caption(subject(), "orange", section, generator(0, "t", n)) for n in range(400)]
    assert all(c.text.endswith("on an orange background") for c in drawn)
    assert all((c.style == "3d") == ("3d style" in c.text) for c in drawn)
    assert 0.05 < np.mean([c.style == "" for c in drawn]) < 0.15
    assert 0.05 < np.mean(["red apple" not in c.text for c in drawn]) < 0.15
    assert (
        0.13
        < np.mean(
            [
                c.text.startswith("red apple, ") and c.text.split(", ")[1] in subject().tags
                for c in drawn
            ]
        )
        < 0.27
    )
    white = [draw_caption(subject(), "white", section, generator(0, "t", n)) for n in range(400)]
    assert 0.2 < np.mean([c.text.endswith("on a white background") for c in white]) < 0.4
    assert all("background" not in c.text or "white background" in c.text for c in white)


def test_a_label_without_other_tags_stays():
    lone = subject(tags=("red apple",))
    drawn = {
        draw_caption(lone, "white", CaptionSection(say_white=0), generator(0, "t", n)).text
        for n in range(100)
    }
    assert drawn == {"red apple, 3d style", "red apple"}


def test_background_phrase():
    assert background_phrase("orange") == "on an orange background"
    assert background_phrase("blue") == "on a blue background"
