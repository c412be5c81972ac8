"""The model beside the app: checked against `model.json`, then opened."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

from edgekd.errors import InputError
from edgekd.reading import Fields
from edgekd.runtime import Pipeline

_FORMAT = 1
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Model:
    """A model that is whole and open."""

    name: str
    precision: str
    pipeline: Pipeline


def model_folder() -> Path:
    """`model` beside the app; PyInstaller unpacks both to a place of its own."""
    root = getattr(sys, "_MEIPASS", None)
    return (Path(root) if root else Path(__file__).resolve().parents[1]) / "model"


def open_model(folder: Path) -> Model:
    """Open a model all of whose files are as `model.json` says.

    Raises:
        InputError: the bundle is not whole, or its runtime is missing.
    """
    facts = Fields.read(folder / "model.json")
    if facts.values.get("format") != _FORMAT:
        raise InputError(f"the model must be of format {_FORMAT}", str(facts.values.get("format")))
    files = facts.inner("files")
    for name in files.values:
        _check_file(folder, name, files.inner(name))
    pipeline = Pipeline.open(folder)
    pipeline.load()
    return Model(facts.text("name"), facts.text("precision"), pipeline)


def _check_file(folder: Path, name: str, said: Fields) -> None:
    path = folder / name
    size = said.integer("bytes", 0, 1 << 50)
    found = path.stat().st_size if path.is_file() else None
    if found != size:
        state = "no such file" if found is None else f"{found} bytes"
        raise InputError(f"`{name}` must have {size} bytes", state, "Unpack the bundle again.")
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != said.text("sha256"):
        rule = f"`{name}` must be as it was packed"
        raise InputError(rule, "another content", "Unpack the bundle again.")
