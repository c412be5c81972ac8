"""Measurements kept between runs, each under the hash of all it depends on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.artifacts import hash_value, read_json, write_json
from edgekd.disk import writing

# Part of every key: raise it when the meaning or the fields of an entry change.
FORMAT = 4


class Cache:
    """A folder of results named `<kind>-<hash>`.

    Entries are written whole or not at all. `prune` removes those that this
    run has not asked for: students and suites that are no more.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._used: set[str] = set()
        root.mkdir(parents=True, exist_ok=True)

    def path(self, kind: str, key: Any, suffix: str = "") -> Path:
        """Where the entry of this kind and key is or will be."""
        path = self._root / f"{kind}-{hash_value([FORMAT, key])[:24]}{suffix}"
        self._used.add(path.name)
        return path

    def json(self, kind: str, key: Any, measure: Callable[[], Any]) -> Any:
        """The entry, measured if it is not there yet."""
        path = self.path(kind, key, ".json")
        if not path.is_file():
            write_json(path, measure())
        return read_json(path)

    def tensors(self, kind: str, key: Any, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """As `json`, for named arrays."""
        from safetensors.numpy import load_file

        path = self.path(kind, key, ".safetensors")
        if not path.is_file():
            write_tensors(path, measure())
        return dict(load_file(path))

    def prune(self) -> None:
        """Remove everything that was not asked for since this object was made."""
        for path in self._root.iterdir():
            if path.name in self._used:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def write_tensors(path: Path, tensors: dict[str, Any]) -> None:
    """Write named arrays as safetensors, whole or not at all.

    Raises:
        InputError: the disk is full or read-only.
    """
    from safetensors.numpy import save_file

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing(path):
            save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
