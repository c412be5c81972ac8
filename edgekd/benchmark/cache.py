"""Measurements kept between runs, each under the hash of all it depends on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.files import code_key, hash_value, read_tensors, write_json, write_tensors
from edgekd.reading import read_object

_NAME = re.compile(r"[a-z0-9_-]+-[0-9a-f]{24}\.(json|safetensors)")


class Cache:
    """A folder of results named `<kind>-<hash>.json` and `.safetensors`.

    Entries are written whole or not at all and carry a hash of their content: what is damaged is
    measured again. `prune` removes those that this run has not asked for: students and suites
    that are no more.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._used: set[str] = set()
        root.mkdir(parents=True, exist_ok=True)

    def path(self, kind: str, key: Any, suffix: str = ".safetensors") -> Path:
        """Where the entry of this kind and key is or will be."""
        path = self._root / f"{kind}-{hash_value([code_key(), key])[:24]}{suffix}"
        self._used.add(path.name)
        return path

    def json(self, kind: str, key: Any, measure: Callable[[], Any]) -> Any:
        """The entry, measured if it is not there yet."""
        found = self.known(kind, key)
        return self.keep(kind, key, measure()) if found is None else found

    def known(self, kind: str, key: Any) -> Any:
        """The JSON entry; None: it is missing or damaged."""
        try:
            entry = read_object(self.path(kind, key, ".json"))
        except InputError:
            return None
        value = entry.get("value")
        return value if entry.get("sha256") == hash_value(value) else None

    def keep(self, kind: str, key: Any, value: Any) -> Any:
        """Write a JSON entry; returns it."""
        entry = {"sha256": hash_value(value), "value": value}
        write_json(self.path(kind, key, ".json"), entry)
        return value

    def tensors(self, kind: str, key: Any, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """As `json`, for named arrays."""
        path = self.path(kind, key)
        found = read_tensors(path)
        if found is None:
            write_tensors(path, measure())
            found = read_tensors(path)
            assert found is not None
        return found

    def prune(self) -> None:
        """Remove the entries that were not asked for since this object was made."""
        for path in self._root.iterdir():
            if path.name not in self._used and _NAME.fullmatch(path.name) and path.is_file():
                path.unlink()
