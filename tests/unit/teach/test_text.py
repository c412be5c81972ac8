"""The text stage: tokenizer, positives, loss."""

import pytest
import torch

from edgekd.errors import InputError
from edgekd.libraries import transformers
from edgekd.resources import STARTER
from edgekd.teach.recipe import TextSection, TrainSection
from edgekd.teach.text import (
    Described,
    build_text_encoder,
    build_tokenizer,
    contrastive_loss,
    fits,
    tokenize,
)

TRAIN = TrainSection(phases=[{"steps": 1, "batch_size": 1}], learning_rate=1e-3)
CAPTIONS = ["red apple, 3d style", "café ☕, on a blue background", ""]


def section(**changes):
    return TextSection.model_validate(
        {"layers": 1, "heads": 2, "hidden_size": 16, "train": TRAIN, **changes}
    )


def test_all_merges_give_the_source_vocabulary():
    ours = build_tokenizer(section(merges=4000))
    theirs = transformers.CLIPTokenizer.from_pretrained(STARTER / "teacher" / "tokenizer")
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours(CAPTIONS).input_ids == theirs(CAPTIONS).input_ids


def test_fewer_merges_cut_words_smaller_and_still_read_all_text(tmp_path):
    few, many = build_tokenizer(section(merges=50)), build_tokenizer(section(merges=4000))
    assert len(few) == 512 + 50 + 2
    assert len(few("pineapple").input_ids) > len(many("pineapple").input_ids)
    ids = few("café ☕").input_ids
    assert few.decode(ids, skip_special_tokens=True).strip() == "café ☕"
    few.save_pretrained(tmp_path)
    reloaded = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    assert reloaded(CAPTIONS).input_ids == few(CAPTIONS).input_ids
    assert reloaded.model_max_length == 32


def test_tokens_fill_the_encoders_positions():
    tokenizer = build_tokenizer(section(max_tokens=8))
    encoder = build_text_encoder(section(max_tokens=8), tokenizer, 0)
    ids = tokenize(tokenizer, [*CAPTIONS, "word " * 50])
    assert ids.shape == (4, 8)
    assert (ids[:, 0] == tokenizer.bos_token_id).all()
    assert ids[3, -1] == tokenizer.eos_token_id
    assert encoder(ids).last_hidden_state.shape == (4, 8, 16)


def test_padding_does_not_change_the_pooled_output():
    tokenizer = build_tokenizer(section())
    encoder = build_text_encoder(section(), tokenizer, 0).eval()
    with torch.no_grad():
        short = encoder(tokenize(tokenizer, CAPTIONS, "longest")).pooler_output
        full = encoder(tokenize(tokenizer, CAPTIONS)).pooler_output
    torch.testing.assert_close(short, full)


@pytest.mark.parametrize("content", [None, "#version: 0.2\na b c\n"])
def test_a_folder_without_merges_is_refused(tmp_path, content):
    if content:
        (tmp_path / "merges.txt").write_text(content)
    with pytest.raises(InputError, match=r"tokenizer|merges\.txt"):
        build_tokenizer(section(tokenizer=str(tmp_path)))


def test_which_captions_fit_which_images():
    images = [
        Described("apple", "3d", "white"),
        Described("apple", "flat", "white"),
        Described("apple", "3d", "blue"),
        Described("pear", "3d", "white"),
    ]
    captions = [
        Described("apple", "3d", "white"),
        Described("apple", "", "white"),
        Described("apple", "", "blue"),
        Described("pear", "3d", "white"),
    ]
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert fits(captions, images).int().tolist() == expected


def test_contrastive_loss_with_one_positive_each_is_cross_entropy():
    logits = torch.randn(5, 5, dtype=torch.float64)
    labels = torch.arange(5)
    cross = torch.nn.functional.cross_entropy
    expected = (cross(logits, labels) + cross(logits.T, labels)) / 2
    found = contrastive_loss(logits, torch.eye(5, dtype=torch.bool))
    torch.testing.assert_close(found, expected)


def test_contrastive_loss_is_least_at_the_uniform_target():
    positive = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    best = torch.where(positive, 0.0, -50.0)
    lopsided = best.clone()
    lopsided[0, 1] = lopsided[1, 0] = -3.0
    assert contrastive_loss(best, positive) == pytest.approx(2 / 3 * torch.tensor(2.0).log())
    assert contrastive_loss(lopsided, positive) > contrastive_loss(best, positive)
