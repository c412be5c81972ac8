"""Read small files that others wrote: regular files alone, of bounded size and depth.

A pipeline folder may come from anywhere. A pipe would never end, a device would fill the memory,
and deep nesting would end the interpreter: each is said in one line instead.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.errors import InputError

_MAX_BYTES = 1 << 27  # a report with all its samples, or a large vocabulary, is a tenth of it
_MAX_DEPTH = 64
_LARGE = 1e6  # no setting of a pipeline comes near it


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


@dataclass(frozen=True)
class Fields:
    """An object of a JSON file, whose values are read by type and range.

    Attributes:
        where: the file, and the place in it.
    """

    where: str
    values: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Fields:
        """The object in a file; see `read_object`."""
        return cls(str(path), read_object(path))

    def has(self, name: str) -> bool:
        """Whether a value is there that is not null."""
        return self.values.get(name) is not None

    def inner(self, name: str) -> Fields:
        value = self._of_type(name, (dict,), "an object")
        return Fields(f"{self.where}, {name}", value)

    def text(self, name: str) -> str:
        return str(self._of_type(name, (str,), "a text"))

    def truth(self, name: str, default: bool | None = None) -> bool:
        return bool(self._of_type(name, (bool,), "true or false", default))

    def integer(self, name: str, low: int, high: int) -> int:
        value = self._of_type(name, (int,), "an integer")
        return int(self._within(name, value, low, high))

    def number(self, name: str, low: float, high: float) -> float:
        value = self._of_type(name, (int, float), "a number")
        return float(self._within(name, value, low, high))

    def entries(self, name: str, counts: range) -> list[Any]:
        """A list of as many entries as one of `counts`."""
        value = self._of_type(name, (list,), "a list")
        if len(value) not in counts:
            rule = f"`{name}` of `{self.where}` must have {counts[0]} to {counts[-1]} entries"
            raise InputError(rule, str(len(value)))
        return list(value)

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        """A list of so many finite numbers."""
        items = {str(i): item for i, item in enumerate(self.entries(name, range(count, count + 1)))}
        inner = Fields(f"{self.where}, {name}", items)
        return tuple(inner.number(index, -_LARGE, _LARGE) for index in items)

    def _of_type(self, name: str, kinds: tuple[type, ...], rule: str, default: Any = None) -> Any:
        value = self.values.get(name, default)
        if type(value) not in kinds:  # a boolean is no integer here
            found = repr(value) if name in self.values else "none"
            raise InputError(f"`{name}` of `{self.where}` must be {rule}", found[:200])
        return value

    def _within(self, name: str, value: float, low: float, high: float) -> float:
        if not low <= value <= high:
            rule = f"`{low} <= {name} <= {high}` must hold in `{self.where}`"
            raise InputError(rule, repr(value)[:200])
        return value
