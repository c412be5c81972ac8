"""CLIP's byte-pair vocabulary (OpenAI, MIT), which checkpoints in one file leave out.

`merges.txt.bz2` holds the merges in order; the vocabulary follows from them: 256 bytes, the same
at the end of a word, one token for each merge, and the two special ones.
"""

from __future__ import annotations

import bz2
import json
from pathlib import Path

from edgekd.libraries import transformers

MERGES = Path(__file__).with_name("merges.txt.bz2")
_END = "</w>"
SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def _byte_characters() -> list[str]:
    """A printable character for each byte (Radford et al. 2019, as GPT-2 and CLIP write them).

    Printable bytes stand for themselves and come first, the others are shifted above 255.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


def _merges() -> str:
    return bz2.decompress(MERGES.read_bytes()).decode()


def clip_tokens() -> list[str]:
    """All tokens, in the order of their ids."""
    characters = _byte_characters()
    merged = [line.replace(" ", "") for line in _merges().splitlines()]
    return [*characters, *(character + _END for character in characters), *merged, *SPECIAL]


def write_tokenizer(folder: Path, pad: str, length: int) -> None:
    """Write a CLIP tokenizer as transformers does.

    Args:
        pad: text of the padding token.
        length: tokens of a prompt.
    """
    merges, tokens = _merges(), clip_tokens()
    folder.mkdir(parents=True)
    vocabulary, list_of_merges = folder / "vocab.json", folder / "merges.txt"
    text = json.dumps({token: index for index, token in enumerate(tokens)}, ensure_ascii=False)
    vocabulary.write_text(text, encoding="utf-8")
    list_of_merges.write_text(f"#version: 0.2\n{merges}", encoding="utf-8")
    tokenizer = transformers.CLIPTokenizer(
        str(vocabulary), str(list_of_merges), pad_token=pad, model_max_length=length
    )
    tokenizer.save_pretrained(folder)
