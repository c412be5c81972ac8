"""`edgekd import`: a checkpoint in one file to a pipeline folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekd.diffusion.resolve import is_checkpoint, resolve_pipeline
from edgekd.errors import InputError
from edgekd.files import check_writable, resolved
from edgekd.folders import check_replaceable
from edgekd.run_folder import check_apart

if TYPE_CHECKING:
    from edgekd.diffusion.single_file.importer import ImportChoices, ImportFacts


def import_run(file: Path, out: Path, choices: ImportChoices) -> ImportFacts:
    """Make a pipeline folder of a checkpoint.

    Raises:
        InputError: no checkpoint of a known family, or an `out` that cannot be written.
    """
    out = resolved(out)
    given = [("FILE", file), *([("--vae", choices.vae)] if choices.vae else [])]
    check_apart(out, given)
    if not is_checkpoint(file.expanduser()):
        if file.is_dir():
            raise InputError("`edgekd import` takes a checkpoint in one file", f"{file} (a folder)")
        resolve_pipeline(str(file), "checkpoint")  # says what is wrong with it
    check_replaceable(out)
    check_writable(out)
    from edgekd.diffusion.single_file.importer import import_once

    return import_once(file.expanduser(), out, choices)
