"""Measurements on disk as they come, so that a choice of bits resumes where it was stopped."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from edgekd.files import canonical_json, hash_value


@dataclass(frozen=True)
class Noise:
    """Mean squared error of the final pictures (in [0,1]) and of the final latents."""

    pictures: float
    latents: float


class NoiseMeasurements:
    """A file of JSON lines, one per measurement, for one set of circumstances.

    Args:
        folder: holds a file for each set of circumstances.
        circumstances: everything that a measurement depends on beyond what is rounded.
    """

    def __init__(self, folder: Path, circumstances: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{hash_value(circumstances)[:32]}.jsonl"
        self._known: dict[str, Noise] = {}
        for line in self._whole_lines():
            row = json.loads(line)
            key = row.pop("key")
            self._known[key] = Noise(**row)

    def __len__(self) -> int:
        return len(self._known)

    def get(self, rounded: object) -> Noise | None:
        """The noise of what is rounded, if it was measured."""
        return self._known.get(canonical_json(rounded))

    def add(self, rounded: object, noise: Noise) -> None:
        """Remember a measurement, here and on the disk."""
        key = canonical_json(rounded)
        self._known[key] = noise
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"key": key, **asdict(noise)}) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def _whole_lines(self) -> list[str]:
        """Lines that a killed process finished; a torn one is cut off."""
        if not self.path.is_file():
            return []
        content = self.path.read_bytes()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            os.truncate(self.path, end)
        return content[:end].decode("utf-8").splitlines()
