"""A bundle as one file: the same folder gives the same bytes."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from pathlib import Path

from edgekd.bundle.manifest import BUNDLE_FILE, BundleFacts
from edgekd.errors import InputError
from edgekd.files import writing

# The first day that a ZIP file can name.
_DATE = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20
_MOST_FACTS = 1 << 24  # bytes of a `bundle.json`: a hundred thousand files


def archive_path(out: Path) -> Path:
    """`out.zip`, beside the folder."""
    return out.with_name(f"{out.name}.zip")


def check_archive(path: Path, kind: str) -> None:
    """Only a bundle of the same kind may be replaced.

    Raises:
        InputError: something else has the name.
    """
    if not os.path.lexists(path):
        return
    there = None if path.is_symlink() else _kind_in(path)
    if there != kind:
        raise InputError(
            f"`--zip` must write a new file, or replace an earlier bundle for {kind}",
            f"{path} (for {there})" if there else f"{path} (no bundle)",
            "Pass another --out, or remove the file.",
        )


def _kind_in(path: Path) -> str | None:
    """The kind of the bundle in a ZIP file; None: it holds none."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.split("/")[1:] == [BUNDLE_FILE]:
                    with archive.open(name) as stream:
                        return BundleFacts.model_validate_json(stream.read(_MOST_FACTS)).kind
    # What zipfile raises for files that are none, broken, encrypted or packed in another way.
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error):
        pass
    return None


def write_archive(folder: Path, facts: BundleFacts, name: str, path: Path) -> None:
    """Write the files of a bundle, below one folder; what else lies among them stays out.

    Args:
        name: of that folder.

    Raises:
        InputError: no room, or nothing can be written there.
    """
    with writing(path), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted([*facts.files, BUNDLE_FILE]):
            source = folder / file
            entry = zipfile.ZipInfo(f"{name}/{file}", _DATE)
            entry.external_attr = (stat.S_IFREG | stat.S_IMODE(source.stat().st_mode)) << 16
            entry.create_system = 3  # Unix, so that modes count
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.file_size = source.stat().st_size
            with open(source, "rb") as stream, archive.open(entry, "w") as target:
                while chunk := stream.read(_CHUNK):
                    target.write(chunk)
