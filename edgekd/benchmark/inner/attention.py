"""Maps of attention to the words of a caption.

Q positions of a square map, L tokens of the padded caption, [h,w] maps.
"""

from __future__ import annotations

from math import isqrt
from typing import Any

import numpy as np

from edgekd.benchmark.inner.question import MAX_MAP_SIDE
from edgekd.metrics.fid import Array
from edgekd.metrics.metric import Floats

MAX_WORDS = 3
_DECIMALS = 3
# They mean nothing that a picture could show.
_STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "by",
        "for",
        "from",
        "in",
        "into",
        "is",
        "it",
        "its",
        "of",
        "on",
        "or",
        "that",
        "the",
        "their",
        "this",
        "to",
        "with",
    ]
)


def word_positions(tokenizer: Any, caption: str) -> dict[str, list[int]]:
    """Tokens of a caption's content words, by their places in the padded caption.

    Punctuation at a word is none of its tokens. Words that the tokenizer cuts off are left out,
    and all of them where its tokens are not those of the single words one after another.
    """
    found: dict[str, list[int]] = {}
    place, tokens = 1, []  # the first token begins the text
    for part in caption.split():
        own = tokenizer(part, add_special_tokens=False).input_ids
        names = tokenizer.convert_ids_to_tokens(own)
        spelled = [i for i, name in enumerate(names) if _has_letters(name)]
        word = part.strip("".join(letter for letter in part if not letter.isalnum()))
        if spelled and word.lower() not in _STOP_WORDS and word not in found:
            found[word] = [place + i for i in spelled]
        place += len(own)
        tokens += own
    whole = tokenizer(caption, add_special_tokens=False).input_ids
    last = tokenizer.model_max_length - 2  # the last one ends the text
    if whole != tokens:
        return {}
    return {word: places for word, places in found.items() if places[-1] <= last}


def _has_letters(token: str) -> bool:
    # `</w>` ends a word in the vocabulary's spelling.
    return any(letter.isalnum() for letter in token.removesuffix("</w>"))


def word_maps(tokenizer: Any, caption: str, weights: Floats) -> dict[str, Array]:
    """Where the first content words of a caption are looked for.

    Args:
        weights: [Q,L] attention, mean over heads.

    Returns:
        [h,w] by word, the mean over its tokens, with maximum 1; of at most `MAX_MAP_SIDE` a side.
    """
    words = list(word_positions(tokenizer, caption).items())[:MAX_WORDS]
    return {word: _picture(weights[:, places].mean(axis=1)) for word, places in words}


def _picture(weights: Floats) -> Array:
    side = isqrt(len(weights))
    parts = max(d for d in range(1, MAX_MAP_SIDE + 1) if side % d == 0)
    share = side // parts
    square = weights.astype(np.float64).reshape(parts, share, parts, share).mean(axis=(1, 3))
    return np.asarray(np.round(square / (square.max() or 1.0), _DECIMALS))
