"""Finished pictures that are fetched by address, for a while."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class KeptPicture:
    content: bytes
    media_type: str
    until: float


class KeptPictures:
    """In memory, bounded in number, bytes and time; the oldest leave.

    A name is 192 random bits, and whoever knows it may fetch the picture.
    """

    def __init__(
        self,
        count: int = 256,
        size: int = 1 << 28,
        seconds: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count, self._size, self._seconds, self._clock = count, size, seconds, clock
        self._pictures: OrderedDict[str, KeptPicture] = OrderedDict()
        self._bytes = 0

    def put(self, content: bytes, media_type: str) -> str:
        """Keep a picture under a new name."""
        name = secrets.token_urlsafe(24)
        self._pictures[name] = KeptPicture(content, media_type, self._clock() + self._seconds)
        self._bytes += len(content)
        self._forget()
        while len(self._pictures) > 1 and (
            len(self._pictures) > self._count or self._bytes > self._size
        ):
            self._drop()
        return name

    def get(self, name: str) -> KeptPicture | None:
        self._forget()
        return self._pictures.get(name)

    def _forget(self) -> None:
        while self._pictures and next(iter(self._pictures.values())).until <= self._clock():
            self._drop()

    def _drop(self) -> None:
        _, picture = self._pictures.popitem(last=False)
        self._bytes -= len(picture.content)
