"""The models of a benchmark: what the user names, and the pipeline folders that are meant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgekd.diffusion.resolve import resolve_pipeline
from edgekd.file_record import ARTIFACT_FILE
from edgekd.files import hash_tree

MANIFEST = "manifest.json"
_INDEX = "model_index.json"
# Where `edgekd distill` leaves its student.
_STUDENT = Path("distill") / "student"


@dataclass(frozen=True)
class Model:
    """One pipeline whose rows a benchmark has.

    Attributes:
        path: a diffusers folder, or an exported one.
        key: hash of its content, or of all that it was made from.
    """

    name: str
    role: Literal["teacher", "student"]
    path: Path
    key: str

    @property
    def exported(self) -> bool:
        return (self.path / MANIFEST).is_file()


def given_models(models: dict[str, Path]) -> dict[str, Path]:
    """The pipeline folder of each: a folder, a checkpoint in one file, or a run's student.

    Raises:
        InputError: see `edgekd.diffusion.resolve.resolve_pipeline`, or an unusable folder.
    """
    from edgekd.diffusion.validate import inspect_folder
    from edgekd.runtime.folder import read_folder

    found = {name: _pipeline(path) for name, path in models.items()}
    for path in found.values():
        if (path / MANIFEST).is_file():
            read_folder(path)
        else:
            inspect_folder(path)
    return found


def _pipeline(path: Path) -> Path:
    if not (path / _INDEX).is_file() and (path / _STUDENT / _INDEX).is_file():
        path = path / _STUDENT
    return resolve_pipeline(str(path), "model")


def content_key(path: Path) -> str:
    """Of a folder that somebody gave."""
    return hash_tree(path, exclude=(ARTIFACT_FILE,))
