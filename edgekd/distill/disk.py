"""File-system errors of a run as one clear line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from edgekd.errors import InputError


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn an error of the file system into one clear line.

    Raises:
        InputError: no space left, read-only, no permission, ...
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{what} must be writable",
            reason,
            "Make room or choose another --out; a rerun continues from the last checkpoint.",
        ) from error
