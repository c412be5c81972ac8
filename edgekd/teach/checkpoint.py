"""The checkpoint file of a training stage: what it is known by, and how it is opened and kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from edgekd.errors import InputError
from edgekd.progress import Progress
from edgekd.teach.log import METRICS_FILE

CHECKPOINT_FILE = "checkpoint.safetensors"


class Keys(NamedTuple):
    """What a stage's training is known by.

    Attributes:
        structure: hash of what a checkpoint must share to go on from it.
        settings: hash of all that decides the stage's result.
    """

    structure: str
    settings: str


@contextlib.contextmanager
def open_checkpoint(path: Path) -> Iterator[Any]:
    """A checkpoint's `safe_open` file.

    Raises:
        InputError: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            yield file
    except SafetensorError as error:
        raise InputError(f"`{path}` must be a checkpoint", str(error)) from None


def set_aside(folder: Path, progress: Progress) -> None:
    """Rename a checkpoint of another structure, and its metrics: it may hold hours of work."""
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        return
    number = 1
    while (other := path.with_stem(f"{path.stem}.{number}")).exists():
        number += 1
    metrics = folder / METRICS_FILE
    if metrics.is_file():
        metrics.replace(metrics.with_stem(f"{metrics.stem}.{number}"))
    path.rename(other)
    progress.info(f"`{path}` is of another structure: kept as `{other.name}`")
