"""Read small files that others wrote: regular files alone, of bounded size and depth.

A pipeline folder may come from anywhere. A pipe would never end, a device would fill the memory,
and deep nesting would end the interpreter: each is said in one line instead.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from edgekd.errors import InputError

_MAX_BYTES = 1 << 27  # a report with all its samples, or a large vocabulary, is a tenth of it
_MAX_DEPTH = 64


def read_text(path: Path) -> str:
    """Text of a file in UTF-8.

    Raises:
        InputError: the file cannot be read, or is none that ends soon.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"`{path}` must be a regular file", "another kind of file")
        with open(path, "rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise InputError(f"`{path}` must be at most {_MAX_BYTES} bytes long", "more")
        return content.decode("utf-8")
    except FileNotFoundError:
        raise InputError("the file must exist", str(path)) from None
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or no possible path
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"`{path}` must be a readable text file", str(reason)) from None


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: the file cannot be read, is not JSON, or is nested too deeply.
    """
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"`{path}` must be JSON", str(error)) from None
    if not _is_shallow(value):
        raise InputError(f"`{path}` must be JSON of at most {_MAX_DEPTH} levels", "more")
    return value


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: as `read_json`, or it holds something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"`{path}` must hold a JSON object", type(value).__name__)
    return value


def _is_shallow(value: Any) -> bool:
    level: list[Any] = [[value]]
    for _ in range(_MAX_DEPTH + 1):
        items = (
            one for each in level for one in (each.values() if isinstance(each, dict) else each)
        )
        level = [one for one in items if isinstance(one, dict | list)]
        if not level:
            return True
    return False
