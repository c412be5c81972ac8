import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgekd import resources
from edgekd.errors import InputError
from edgekd.libraries import transformers
from edgekd.runtime.tokenizer import ClipTokenizer

FOLDER = resources.STARTER / "teacher" / "tokenizer"
# What trips tokenizers up: case that changes length, composed marks, odd spaces, joiners, Chinese
# characters, contractions, digits of other scripts, the special tokens themselves.
PIECES = [
    *("red", "Apple", "İstanbul", "ΌΣΟΣ", "STRASSE ß", "e\u0301", "\u00a0", "\u2028", "\u200d"),
    *("\t", "\n", "\x00", "\x85", "\ufffd", "👩\u200d🚀", "🏳️\u200d🌈", "漢字", "\U00020000"),
    *("한국", "it's", "IT'S", "'\u017f", "don't", "'LL", "٣½Ⅷ²", "12", "!!", "..."),
    *("<|endoftext|>", "<|startoftext|>", "<|ENDOFTEXT|>", "!!<|STARTOFTEXT|>"),
    *("\u212a", "ﬁ", "ﬆ", "\ue000", "\U000e0001"),
]
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from([*PIECES, " "]), max_size=30).map("".join),
    st.text(alphabet=st.characters(max_codepoint=0x24F), max_size=60),
)


def reference(folder: Path) -> Any:
    return transformers.CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)


def expected_ids(tokenizer: Any, prompts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(
        prompts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True
    ).input_ids
    return ids


@pytest.fixture(scope="module")
def padded_with_zero(tmp_path_factory) -> Path:
    """As SDXL's second tokenizer: padded with `!`, which is an added token then, and one learned
    concept."""
    folder = tmp_path_factory.mktemp("tokenizer") / "second"
    tokenizer = transformers.CLIPTokenizer.from_pretrained(
        str(FOLDER), pad_token="!", local_files_only=True
    )
    stripped = transformers.AddedToken("<my-dog>", lstrip=True, rstrip=True)
    tokenizer.add_tokens(["<my-cat>", "<my-cat>s", stripped])
    tokenizer.save_pretrained(folder)
    return folder


SIZE = 4514  # of the starter's vocabulary
OWN = ClipTokenizer(FOLDER, SIZE)
REFERENCE = reference(FOLDER)


@settings(max_examples=400, deadline=None)
@given(TEXTS)
@example("")
@example("a photo of a RED apple,  on   a table")
@example("word " * 200)
@example("x" * 500)
def test_same_ids_as_transformers(prompt):
    ids, _ = OWN([prompt])
    assert ids.tolist() == expected_ids(REFERENCE, [prompt])


def test_other_padding_and_learned_tokens(padded_with_zero):
    own, theirs = ClipTokenizer(padded_with_zero, SIZE + 3), reference(padded_with_zero)
    prompts = ["hello!", "", "a <my-cat> and <my-cat>s!!", "<MY-CAT>", "red apple"]
    prompts += ["a  <my-dog> and<my-dog>  s", "<my-dog> <my-cat>"]
    ids, _ = own(prompts)
    assert ids.tolist() == expected_ids(theirs, prompts)
    assert ids[1, -1] == 0


def test_long_prompts_are_cut_and_counted():
    ids, cut = OWN(["red apple", "apple " * 40])
    assert ids.shape == (2, OWN.max_length)
    whole = REFERENCE("apple " * 40).input_ids
    assert cut == [0, len(whole) - OWN.max_length]


def damaged(tmp_path: Path, name: str, change: Any) -> Path:
    folder = tmp_path / "tokenizer"
    shutil.copytree(FOLDER, folder)
    path = folder / name
    if change is None:
        path.unlink()
    elif isinstance(change, str):
        path.write_text(change, encoding="utf-8")
    else:
        values = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**values, **change}), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("vocab.json", None, "the file must exist"),
        ("vocab.json", "{", "must be JSON"),
        ("vocab.json", "[]", "must hold a JSON object"),
        ("vocab.json", '{"a": "b"}', "must map tokens to integers"),
        ("merges.txt", "#version\nxq qx", "must hold pairs of tokens"),
        ("tokenizer_config.json", {"tokenizer_class": "T5Tokenizer"}, "must be a CLIPTokenizer"),
        ("tokenizer_config.json", {"padding_side": "left"}, "`padding_side`.* must be 'right'"),
        ("tokenizer_config.json", {"model_max_length": 10**30}, "model_max_length <= 100000"),
        ("tokenizer_config.json", {"pad_token": "<pad>"}, "the `pad_token` .* in its vocabulary"),
        ("tokenizer_config.json", {"model_max_length": True}, "model_max_length <= 100000"),
        *(
            ("tokenizer_config.json", {"added_tokens_decoder": added}, message)
            for added, message in [
                ({"9": {"content": "<x>", "single_word": True}}, "not `single_word`"),
                ({"9": {}}, "must have a number and a text"),
                ({"nine": {"content": "<x>"}}, "must have a number and a text"),
                ({"-9": {"content": "<x>"}}, "must have a number and a text"),
                ([3], "must be an object"),
                ({"4514": {"content": "<x>"}}, "0 <= id < 4514.* but got 4514 of '<x>'"),
            ]
        ),
    ],
)
def test_damaged_folders(tmp_path, name, change, message):
    with pytest.raises(InputError, match=message):
        ClipTokenizer(damaged(tmp_path, name, change), SIZE)
