"""Folders that are filled step by step and survive a kill."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgekd.disk import disk_errors
from edgekd.errors import EdgekdError


@contextlib.contextmanager
def resumable_folder(final: Path, key: str) -> Iterator[Path]:
    """Yield the folder in which `final` grows; on success it takes that name.

    A later call with the same key finds what an earlier, killed one finished.
    Work for another key is thrown away, and so is all of it when the user's
    input turns out to be wrong.
    """
    partial = final.with_name(f".{final.name}.{key[:16]}.partial")
    with disk_errors(final):
        for other in final.parent.glob(f".{final.name}.*.partial"):
            if other != partial:
                shutil.rmtree(other, ignore_errors=True)
        partial.mkdir(parents=True, exist_ok=True)
        # The second pattern is safetensors' own.
        for temporary in (*partial.rglob(".*.tmp"), *partial.rglob(".tmp??????")):
            temporary.unlink(missing_ok=True)
        try:
            yield partial
        except EdgekdError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _replace(final, partial)


def _replace(final: Path, new: Path) -> None:
    old = final.with_name(f".{final.name}.{os.getpid()}.old")
    if final.exists():
        final.rename(old)
    new.rename(final)
    shutil.rmtree(old, ignore_errors=True)
