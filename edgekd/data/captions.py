"""From text as other tools write it to a caption and the fields beside it."""

from __future__ import annotations

import codecs
import json
from typing import Any

# The first that holds text is taken. `text` is what image folders of Hugging Face have; the
# others are of img2dataset, LAION and widely used sets.
CAPTION_COLUMNS = (
    *("text", "caption", "captions", "prompt"),
    *("TEXT", "en_text", "additional_feature", "txt"),
)


def text_encoding(start: bytes) -> str:
    """The encoding that the first bytes of a text tell: UTF-16 by its mark, else UTF-8."""
    marked = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return "utf-16" if marked else "utf-8-sig"


def decode_text(content: bytes) -> str:
    """A text without its byte-order mark and the space around it.

    Raises:
        ValueError: the bytes are no text.
    """
    text = content.decode(text_encoding(content)).strip()
    if "\0" in text:
        raise ValueError("a text must hold no NUL")
    return text


def parse_json(text: str) -> Any:
    """What a JSON text holds.

    Raises:
        ValueError: not JSON, or nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def find_caption(row: dict[str, Any], column: str | None) -> tuple[str, str]:
    """The column that holds the caption, and the caption; two times "" where there is none.

    Args:
        row: values by column. Of a list the first entry is taken.
        column: the one to take; None: the first of `CAPTION_COLUMNS` that holds text.
    """
    for key in CAPTION_COLUMNS if column is None else (column,):
        value = row.get(key)
        if isinstance(value, list | tuple) and value:
            value = value[0]
        if isinstance(value, str) and value.strip():
            return key, value.strip()
    return "", ""


def text_fields(row: dict[str, Any], without: tuple[str, ...]) -> dict[str, str]:
    """Scalars and lists of a row as text; nulls, bytes and nested values are left out."""
    result = {}
    for key, value in row.items():
        if key in without or value is None or isinstance(value, bytes | dict):
            continue
        if isinstance(value, list | tuple):
            value = ", ".join(str(item) for item in value)
        result[str(key)] = str(value)
    return result
