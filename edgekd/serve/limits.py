"""Limits of a server: a module of its own, for each start of the command line reads them."""

from __future__ import annotations

from dataclasses import dataclass

TOKEN_VARIABLE = "EDGEKD_TOKEN"


@dataclass(frozen=True)
class Limits:
    """What one server accepts.

    Attributes:
        queue: pictures that wait at the same time.
        timeout_s: of a request, from its arrival to its last picture.
        grace_s: how long running pictures may take after SIGTERM.
        memory_bytes: resident memory of a worker above which its least recently used model leaves.
        pixels: of a picture, where the export takes other sizes than its own.
    """

    queue: int = 64
    timeout_s: float = 120.0
    grace_s: float = 30.0
    memory_bytes: int | None = None
    pixels: int = 1 << 20
