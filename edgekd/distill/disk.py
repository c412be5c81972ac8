"""File-system errors of a run as one clear line."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from edgekd.disk import disk_errors


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into an `InputError`, from safetensors' writer too.

    Raises:
        InputError: no space left, read-only, no permission, a file in a folder's place.
    """
    from safetensors import SafetensorError

    with disk_errors(path):
        try:
            yield
        except SafetensorError as error:
            # safetensors keeps the system's error number in its text only.
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            code = int(number[1])
            raise OSError(code, os.strerror(code), str(path)) from None
