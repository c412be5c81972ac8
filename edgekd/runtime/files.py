"""Read the small files of an exported folder; what is wrong with one is said in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgekd.errors import InputError


def read_text(path: Path) -> str:
    """Text of a file in UTF-8.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.reason
        raise InputError(f"`{path}` must be a readable text file", str(reason)) from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: the file cannot be read or holds something else.
    """
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"`{path}` must be a JSON file", str(error)) from None
    if not isinstance(value, dict):
        raise InputError(f"`{path}` must hold a JSON object", type(value).__name__)
    return value
