"""`bundle.json`: what a bundle is, and size and hash of every file in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from edgekd.bundle.kind import Contents
from edgekd.bundle.model import DrawnAs, FileFacts
from edgekd.errors import InputError
from edgekd.files import hash_file, write_text
from edgekd.reading import read_object

BUNDLE_FILE = "bundle.json"
FORMAT = 1


class BundleFacts(BaseModel):
    """The whole file.

    Attributes:
        kind: as `--for` takes it.
        model: its name, for people.
        licence: of the model; null: nobody said.
        source: content hash of the export.
        edgekd: the version that made the bundle.
        bytes: of all files together.
        files: path, with `/`, relative to the bundle.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal[1]
    kind: str
    model: str
    runtime: str
    precision: str
    generation: DrawnAs
    licence: str | None
    source: str
    edgekd: str
    bytes: int
    files: dict[str, FileFacts]


def write_bundle_file(
    folder: Path, kind: str, contents: Contents, files: Mapping[str, FileFacts]
) -> None:
    """Write the list of a filled folder.

    Args:
        files: all of the bundle's but this one.
    """
    facts = BundleFacts(
        format=FORMAT,
        kind=kind,
        model=contents.name,
        runtime=contents.exported.runtime,
        precision=contents.precision,
        generation=DrawnAs(**vars(contents.generation)),
        licence=contents.licence.name,
        source=contents.content_hash,
        edgekd=contents.version,
        bytes=sum(file.bytes for file in files.values()),
        files=dict(files),
    )
    write_text(folder / BUNDLE_FILE, facts.model_dump_json(indent=2) + "\n")


def read_facts(folder: Path) -> BundleFacts:
    """What a bundle says of itself.

    Raises:
        InputError: it is none.
    """
    path = folder / BUNDLE_FILE
    values = read_object(path)
    try:
        return BundleFacts.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        rule = f"`{'.'.join(map(str, first['loc']))}` of `{path}` must be as edgekd writes it"
        raise InputError(rule, first["msg"]) from None


def read_bundle(folder: Path) -> BundleFacts:
    """As `read_facts`, of a bundle all of whose files are there and as it says.

    Raises:
        InputError: no bundle, or one that is not whole.
    """
    facts = read_facts(folder)
    for name, said in facts.files.items():
        file = folder / name
        if (
            not file.is_file()
            or FileFacts(bytes=file.stat().st_size, sha256=hash_file(file)) != said
        ):
            raise InputError(
                f"all files of `{folder}` must be as `{BUNDLE_FILE}` says",
                f"{name} (missing or changed)",
                "Unpack or make the bundle again.",
            )
    return facts
