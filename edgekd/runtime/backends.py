"""The backend of an exported folder."""

from __future__ import annotations

from dataclasses import replace

from edgekd.errors import InputError
from edgekd.runtime.backend import Backend
from edgekd.runtime.folder import ExportedFolder
from edgekd.runtime.registry import runtimes


def open_backend(folder: ExportedFolder, threads: int = 0) -> Backend:
    """The backend of a folder's runtime.

    Args:
        threads: threads inside an operator; 0: as the folder's options say. Core ML chooses its
            own.

    Raises:
        InputError: the runtime is not installed, or has no backend here.
    """
    if threads < 0:
        raise InputError("`threads >= 0` must hold", f"threads={threads}")
    known = {name: found.backend for name, found in runtimes().items() if found.backend}
    if folder.runtime not in known:
        raise InputError(
            f"the runtime of the exported folder must be one of {', '.join(known)}",
            folder.runtime,
        )
    options = replace(folder.options, threads=threads or folder.options.threads)
    return known[folder.runtime](folder.path, options)
