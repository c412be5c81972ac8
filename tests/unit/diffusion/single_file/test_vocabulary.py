"""CLIP's vocabulary, against ids that are published and the starter's copy of its beginning."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgekd.diffusion.components import load_tokenizer
from edgekd.diffusion.single_file.vocabulary import write_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Any:
    folder = tmp_path_factory.mktemp("clip") / "tokenizer"
    write_tokenizer(folder, "!", 77)
    return load_tokenizer(folder)


def test_published_ids(tokenizer):
    # From the documentation of transformers' CLIP.
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer("a photo of a dog").input_ids == [49406, 320, 1125, 539, 320, 1929, 49407]
    assert (len(tokenizer), tokenizer.pad_token_id, tokenizer.model_max_length) == (49408, 0, 77)


def test_any_text_can_be_written(tokenizer):
    for text in ("naïve café", "苹果", "🍎", "1234567890 !?"):
        ids = tokenizer(text).input_ids[1:-1]
        assert tokenizer.decode(ids).replace(" ", "") == text.replace(" ", "")


def test_it_begins_as_the_starters(tokenizer, starter_teacher, tmp_path):
    write_tokenizer(tmp_path / "tokenizer", "<|endoftext|>", 77)
    whole = (tmp_path / "tokenizer" / "merges.txt").read_text().splitlines()
    starter: Path = starter_teacher / "tokenizer"
    begun = (starter / "merges.txt").read_text().splitlines()
    assert whole[1 : len(begun)] == begun[1:]
    vocabulary = json.loads((tmp_path / "tokenizer" / "vocab.json").read_text())
    assert sorted(vocabulary.values()) == list(range(49408))
    own = json.loads((starter / "vocab.json").read_text())
    assert {k: vocabulary[k] for k in own if not k.startswith("<|")} == {
        k: i for k, i in own.items() if not k.startswith("<|")
    }
