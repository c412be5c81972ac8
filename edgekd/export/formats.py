"""File formats: what another program reads, that has no runtime here to draw and to time with.

A target whose `runtime` is a file format can be exported for and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Protocol

from edgekd.entries import entries
from edgekd.errors import InputError
from edgekd.export.lora import Lora
from edgekd.export.protocol import Generation
from edgekd.progress import Progress

GROUP = "edgekd.formats"


@dataclass(frozen=True)
class FormatRequest:
    """A pipeline folder to write in a format.

    Attributes:
        loras: fused first, in this order.
        generation: how pictures are drawn.
    """

    pipeline: Path
    out: Path
    precision: str
    loras: tuple[Lora, ...]
    generation: Generation


@dataclass(frozen=True)
class Written:
    """Files of a format, proven to hold the pipeline's weights.

    Attributes:
        bytes: size of each file by name.
        facts: sentences for people.
    """

    path: Path
    precision: str
    bytes: dict[str, int]
    facts: tuple[str, ...]

    def lines(self) -> Sequence[str]:
        """What `edgekd export` prints."""
        sizes = (f"{name}: {size / 1e6:.1f} MB" for name, size in self.bytes.items())
        return (*sizes, *self.facts, f"export: {self.path}")

    def to_json(self) -> dict[str, object]:
        return {
            "path": self.path,
            "precision": self.precision,
            "bytes": self.bytes,
            "facts": self.facts,
        }


class FileFormat(Protocol):
    """Writes pipelines in one format; found through the entry points `edgekd.formats`."""

    name: str
    precisions: tuple[str, ...]

    def write(self, request: FormatRequest, progress: Progress) -> Written:
        """Write the files, whole and proven to be the pipeline, or none.

        Raises:
            InputError: what the format, or the program that reads it, cannot express.
            GateError: what was written reads back as something else.
        """


def formats() -> dict[str, EntryPoint]:
    """All installed formats, by name, without importing any."""
    return entries(GROUP)


def get_format(name: str) -> FileFormat:
    """Import and make one format of `formats()`."""
    found: FileFormat = formats()[name].load()()
    return found


def no_runtime(name: str) -> InputError:
    """What is said where a target is to be measured or drawn with."""
    return InputError(
        f"`{name}` is a file format, which edgekd writes and does not run",
        "a verb that draws or measures",
        f"Use another target, and `edgekd export RUN/distill/student --target {name}` afterwards.",
    )
