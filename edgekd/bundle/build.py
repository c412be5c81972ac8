"""A bundle from a kind and an export: whole, or not there."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from edgekd.bundle.archive import archive_path, check_archive, write_archive
from edgekd.bundle.copying import check_room, templates_hash
from edgekd.bundle.kind import Contents, Kind
from edgekd.bundle.licences import FOLDER
from edgekd.bundle.manifest import BUNDLE_FILE, BundleFacts, read_facts, write_bundle_file
from edgekd.bundle.model import FileFacts, list_files
from edgekd.bundle.readme import README_FILE, readme
from edgekd.errors import InputError
from edgekd.export.manifest import folder_bytes
from edgekd.file_record import ARTIFACT_FILE, finish
from edgekd.files import atomic_file, code_key, hash_value, write_bytes, writing
from edgekd.folders import atomic_folder, check_replaceable, finished, set_aside
from edgekd.progress import Progress

# An app without its model: page and runtime are about 15 MB.
_APP_BYTES = 50_000_000


@dataclass(frozen=True)
class Bundle:
    """A finished bundle.

    Attributes:
        archive: the ZIP file; None: none was asked for.
    """

    path: Path
    archive: Path | None
    facts: BundleFacts


def check_place(kind: str, out: Path, zipped: bool) -> None:
    """Whether a bundle may be written here, before any work.

    Raises:
        InputError: something else is there, a bundle of another kind too.
    """
    try:
        check_replaceable(out)
    except InputError as error:
        if not (out / BUNDLE_FILE).is_file():
            raise
        hint = "Somebody worked in it or tried it there. Move it away, or pass another folder."
        raise InputError(error.rule, error.found, hint) from None
    there = _what_is_there(out)
    if there not in (None, kind):
        raise InputError(
            f"`--out` must be a new or empty folder, or an earlier bundle for {kind}",
            f"{out} (for {there})" if there else f"{out} (no bundle)",
            "Pass another folder, or remove this one.",
        )
    if zipped:
        check_archive(archive_path(out), kind)


def _what_is_there(out: Path) -> str | None:
    """The kind of the bundle in a folder, "" for edgekd's other results; None: nothing."""
    if not out.is_dir() or not any(out.iterdir()):
        return None
    return read_facts(out).kind if (out / BUNDLE_FILE).is_file() else ""


def bundle_key(kind: Kind, contents: Contents) -> str:
    """Content hash of everything that a bundle depends on."""
    licence = contents.licence
    texts = {name: text.decode(errors="replace") for name, text in licence.files.items()}
    said = [contents.name, contents.pipeline, contents.precision, licence.name, licence.sentence]
    made_from = [contents.content_hash, asdict(contents.generation), texts, said]
    return hash_value([code_key(), templates_hash(), kind.name, made_from])


def build(
    kind: Kind, contents: Contents, out: Path, progress: Progress, zipped: bool = False
) -> Bundle:
    """Make the bundle of an export, or leave the one that is there and up to date.

    Args:
        out: see `check_place`. An older bundle in which somebody has worked is set aside.
        zipped: also as one file, beside the folder.

    Raises:
        InputError: no room, or what `kind.fill` raises; nothing is left then.
    """
    key = bundle_key(kind, contents)
    path = archive_path(out) if zipped else None
    if finished(out, key, progress.info) is None:
        check_room(out.parent, folder_bytes(contents.path) * (2 if zipped else 1) + _APP_BYTES)
        if (aside := set_aside(out)) is not None:
            progress.info(f"  {out} was changed since: it is {aside} now")
        progress.info(f"  putting the {kind.title} together")
        with atomic_folder(out) as folder:
            with writing(out):
                kind.fill(folder, contents, progress)
            _complete(folder, kind, contents)
            finish(folder, key)
    else:
        progress.info(f"  {out} is up to date")
    facts = read_facts(out)
    if path is not None:
        with atomic_file(path) as temporary:
            write_archive(out, facts, _archive_name(kind, contents), temporary)
    return Bundle(out, path, facts)


def _archive_name(kind: Kind, contents: Contents) -> str:
    """The folder that a ZIP file holds, wherever the bundle was made."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{contents.name}-{kind.name}")


def _complete(folder: Path, kind: Kind, contents: Contents) -> None:
    """What all bundles have, around what the kind has written."""
    (folder / FOLDER).mkdir(exist_ok=True)
    for name, content in contents.licence.files.items():
        if (folder / FOLDER / name).exists():
            raise InputError("a kind's own licences must have names of their own", name)
        write_bytes(folder / FOLDER / name, content)
    files = list_files(folder, without=(ARTIFACT_FILE,))
    text = readme(kind, contents, files).encode()
    write_bytes(folder / README_FILE, text)
    told = FileFacts(bytes=len(text), sha256=hashlib.sha256(text).hexdigest())
    write_bundle_file(folder, kind.name, contents, {**files, README_FILE: told})
