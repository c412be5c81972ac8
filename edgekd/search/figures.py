"""Named figures that are dear to compute, kept on disk one by one as they come."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from edgekd.errors import InputError
from edgekd.files import hash_value, write_json
from edgekd.reading import read_json
from edgekd.schema import Section, validate


class _Record(Section):
    key: str
    figures: dict[str, float]
    seal: str = Field(..., description="hash of the figures: a changed one was not computed")


class KeptFigures:
    """Figures by name. A process that is killed loses the one that it was computing.

    Args:
        path: of their file, which is written whole or not at all. One that is damaged, or of
            another key, is made again.
        key: hash of all that they follow from.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        self._known = self._read()

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def __getitem__(self, name: str) -> float:
        return self._known[name]

    def get(self, name: str, compute: Callable[[], float]) -> float:
        """The figure of this name, computed if it is not known.

        Raises:
            ValueError: it is not finite.
        """
        if name not in self._known:
            self.keep(name, float(compute()))
        return self._known[name]

    def keep(self, name: str, value: float) -> None:
        """Write a figure that is known now.

        Raises:
            ValueError: it is not finite.
        """
        if not math.isfinite(value):
            raise ValueError(f"`{name}` must be finite, but got {value}")
        self._known[name] = value
        self._write()

    def _read(self) -> dict[str, float]:
        if not self._path.exists():
            return {}
        try:
            record = validate(_Record, read_json(self._path), f"`{self._path}`")
        except InputError:
            return {}
        whole = record.key == self._key and record.seal == hash_value(record.figures)
        return dict(record.figures) if whole else {}

    def _write(self) -> None:
        record = _Record(key=self._key, figures=self._known, seal=hash_value(self._known))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._path, record.model_dump())
