"""Prompts to token ids, as `transformers.CLIPTokenizer` makes them (without ftfy installed).

The byte-pair encoding and the splitting into words are those of the `tokenizers` library; the
clean-up before them is done here, because the library's own differs from CLIPTokenizer's in
control characters, in Chinese characters and in Unicode's odder lower cases.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Regex
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split

from edgekd.errors import InputError
from edgekd.reading import read_object, read_text

IntArray = npt.NDArray[np.int64]

# CLIP's words; its two special tokens stay whole here too, after lower-casing.
_SPECIAL = ("<|startoftext|>", "<|endoftext|>")
_WORDS = (
    r"(?i:<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]"
    r"|[^\s\p{L}\p{N}]+)"
)
_MAX_MERGES = 49152 - 256 - 2  # CLIP's vocabulary: all merges but those of bytes and specials
_ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")
# What BERT's tokenizer, which CLIP's clean-up comes from, takes for Chinese characters.
_CHINESE = re.compile(
    "([\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f"
    "\U0002b740-\U0002b81f\U0002b820-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f])"
)


@dataclass(frozen=True)
class _Special:
    """Ids of the tokens with a part to play."""

    bos: int
    eos: int
    pad: int
    unk: int


class ClipTokenizer:
    """A tokenizer folder: `vocab.json`, `merges.txt` and `tokenizer_config.json`.

    Raises:
        InputError: a file is missing or damaged, or a setting is not supported.
    """

    def __init__(self, folder: Path, vocabulary_size: int) -> None:
        config = _config(folder)
        vocabulary = _vocabulary(folder)
        self.max_length = int(config["model_max_length"])
        self._added = _added_tokens(folder, config, vocabulary)
        ids = {**vocabulary, **self._added}
        for token, index in ids.items():
            if not 0 <= index < vocabulary_size:
                raise InputError(
                    f"`0 <= id < {vocabulary_size}` must hold for the tokens of `{folder}`, or the "
                    "text encoder cannot read them",
                    f"{index} of {token[:80]!r}",
                )
        names = {role: _content(config[role]) for role in _ROLES}
        for role, name in names.items():
            if name not in ids:
                raise InputError(f"the `{role}` of `{folder}` must be in its vocabulary", name)
        self._special = _Special(*(ids[names[role]] for role in _ROLES))
        self._ids = vocabulary
        self._words = Split(Regex(_WORDS), behavior="removed", invert=True)
        self._bytes = ByteLevel(add_prefix_space=False, use_regex=False)
        self._model = _byte_pairs(folder, vocabulary, names["unk_token"])
        longest_first = sorted(self._added, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")

    def __call__(self, prompts: Sequence[str]) -> tuple[IntArray, list[int]]:
        """Token ids [N, max_length], and how many tokens of each prompt did not fit."""
        tokens = [self._encode(prompt) for prompt in prompts]
        room = self.max_length - 2
        ids = np.full((len(tokens), self.max_length), self._special.pad, np.int64)
        for row, found in zip(ids, tokens, strict=True):
            kept = [self._special.bos, *found[:room], self._special.eos]
            row[: len(kept)] = kept
        return ids, [max(0, len(found) - room) for found in tokens]

    def _encode(self, prompt: str) -> list[int]:
        ids: list[int] = []
        # Added tokens are found in the text as it is, before any clean-up.
        for piece in self._split.split(prompt):
            if piece in self._added:
                ids.append(self._added[piece])
            else:
                ids.extend(self._encode_plain(clean(piece)))
        return ids

    def _encode_plain(self, text: str) -> list[int]:
        ids: list[int] = []
        for word, _ in self._words.pre_tokenize_str(text):
            if word in _SPECIAL:
                ids.append(self._ids.get(word, self._special.unk))
                continue
            spelled = "".join(piece for piece, _ in self._bytes.pre_tokenize_str(word))
            ids.extend(token.id for token in self._model.tokenize(spelled))
        return ids


def clean(text: str) -> str:
    """No control characters, Chinese characters apart, composed, lower case, single spaces."""
    kept = "".join(_plain(character) for character in text)
    composed = unicodedata.normalize("NFC", _CHINESE.sub(r" \1 ", kept))
    # Word by word: lower-casing a Greek sigma looks at the end of its word.
    return " ".join(" ".join(word.lower() for word in composed.split()).split())


def _plain(character: str) -> str:
    if character in " \t\n\r" or unicodedata.category(character) == "Zs":
        return " "
    odd = character in "\0\ufffd" or unicodedata.category(character).startswith("C")
    return "" if odd else character


def _config(folder: Path) -> dict[str, Any]:
    config = read_object(folder / "tokenizer_config.json")
    name = str(config.get("tokenizer_class", "CLIPTokenizer"))
    if name != "CLIPTokenizer":
        raise InputError(f"the tokenizer of `{folder}` must be a CLIPTokenizer", name)
    for setting, only in (("padding_side", "right"), ("truncation_side", "right")):
        if config.get(setting, only) != only:
            raise InputError(f"`{setting}` of `{folder}` must be {only!r}", repr(config[setting]))
    config = {**dict.fromkeys(_ROLES, "<|endoftext|>"), "bos_token": "<|startoftext|>", **config}
    for role in _ROLES:
        text = config[role].get("content") if isinstance(config[role], dict) else config[role]
        if not isinstance(text, str):
            raise InputError(f"`{role}` of `{folder}` must be a text", repr(config[role])[:80])
    length = config.get("model_max_length")
    # transformers writes 1e30 where a tokenizer has no limit.
    if type(length) is not int or not 3 <= length <= 100_000:
        raise InputError(f"`3 <= model_max_length <= 100000` must hold in `{folder}`", str(length))
    return config


def _vocabulary(folder: Path) -> dict[str, int]:
    vocabulary = read_object(folder / "vocab.json")
    if not vocabulary or not all(type(index) is int for index in vocabulary.values()):
        raise InputError(f"`{folder / 'vocab.json'}` must map tokens to integers", "something else")
    return vocabulary


def _content(token: Any) -> str:
    """A token is written as text, or as an object with its text in `content`."""
    return str(token.get("content", "") if isinstance(token, dict) else token)


def _added_tokens(
    folder: Path, config: dict[str, Any], vocabulary: dict[str, int]
) -> dict[str, int]:
    """Tokens that are found whole in a prompt: the special ones and learned concepts."""
    found = {
        name: vocabulary[name]
        for name in map(_content, map(config.get, _ROLES))
        if name in vocabulary
    }
    listed = config.get("added_tokens_decoder") or {}
    if not isinstance(listed, dict):
        raise InputError(
            f"`added_tokens_decoder` of `{folder}` must be an object", repr(listed)[:80]
        )
    for index, token in listed.items():
        name = _content(token)
        # Spaces beside a token separate words anyway: `lstrip` and `rstrip` change nothing.
        whole_words = isinstance(token, dict) and token.get("single_word")
        if not index.isdecimal() or not index.isascii() or not name or whole_words:
            raise InputError(
                f"added tokens of `{folder}` must have a number and a text, not `single_word`",
                f"{index[:80]!r}: {str(token)[:200]}",
            )
        found[name] = int(index)
    return found


def _byte_pairs(folder: Path, vocabulary: dict[str, int], unknown: str) -> BPE:
    lines = read_text(folder / "merges.txt").strip().split("\n")[1 : _MAX_MERGES + 1]
    merges = [tuple(line.split()) for line in lines]
    try:
        return BPE(vocabulary, merges, unk_token=unknown, end_of_word_suffix="</w>")
    except Exception as error:  # the library raises no narrower one
        raise InputError(
            f"`{folder / 'merges.txt'}` must hold pairs of tokens of `vocab.json`",
            " ".join(str(error).split())[:200],
        ) from None
