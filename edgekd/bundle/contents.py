"""From an exported folder to what a kind of bundle puts into an app."""

from __future__ import annotations

from pathlib import Path

from edgekd import __version__
from edgekd.bundle.kind import Contents
from edgekd.bundle.licences import find_licence
from edgekd.export.manifest import read_manifest
from edgekd.model_card import model_name
from edgekd.runtime.folder import read_folder


def read_contents(exported: Path, licence: Path | None = None) -> Contents:
    """Read an exported folder.

    Args:
        licence: text file of the model's licence; None: what its card says.

    Raises:
        InputError: no export, a damaged one, or one that edgekd's runtime cannot draw with.
    """
    manifest = read_manifest(exported)
    folder = read_folder(exported)
    # A card names the export; people know the model by its own name.
    suffix = f"-{manifest.runtime}-{manifest.precision}"
    return Contents(
        name=model_name(exported).removesuffix(suffix),
        exported=folder,
        pipeline=manifest.source.pipeline,
        content_hash=manifest.content_hash,
        licence=find_licence(exported, licence),
        version=__version__,
    )
