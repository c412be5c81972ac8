"""What a server and its workers tell each other, and how it goes through a pipe.

A message is a line of JSON's length in 4 bytes, that JSON, and raw bytes whose length it names:
pictures are not copied through base64, and nothing is unpickled.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

_PREFIX = 4


@dataclass(frozen=True)
class Drawing:
    """One picture, every default filled in.

    Attributes:
        sampler: class in diffusers; None: the folder's own.
        quality: of JPEG and WebP, 0 to 100.
        previews: how many come before the picture.
    """

    model: str
    prompt: str
    negative_prompt: str | None
    seed: int
    steps: int
    guidance_scale: float
    sampler: str | None
    height: int
    width: int
    file_format: str = "png"
    quality: int = 100
    previews: int = 0


@dataclass(frozen=True)
class Setup:
    """What a worker is started with; see `edgekd.serve.settings`."""

    models: dict[str, str]
    threads: int
    memory_bytes: int | None
    embed_prompt: bool
    log_prompts: bool

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Setup:
        return cls(**json.loads(text))

    def paths(self) -> dict[str, Path]:
        return {name: Path(path) for name, path in self.models.items()}


@dataclass(frozen=True)
class Order:
    """To a worker: draw, or, without a drawing, stop the order of this number."""

    number: int
    drawing: Drawing | None = None


@dataclass(frozen=True)
class Reply:
    """From a worker.

    Attributes:
        kind: `ready` (once, or in its place `unable`), `preview`, then one of `picture`,
            `stopped` and `failed`.
        number: of the order.
        message: why it is unable or has failed, as clients may read it.
        step, steps: calls of the U-Net that a preview has behind it, and all.
        loaded: models that the worker holds now.
        seconds: that the picture took, without loading its model and without previews.
        picture: the file.
    """

    kind: str
    number: int = 0
    message: str = ""
    step: int = 0
    steps: int = 0
    loaded: tuple[str, ...] = ()
    seconds: float = 0.0
    picture: bytes = b""


def pack_order(order: Order) -> bytes:
    return _pack(json.dumps(asdict(order)).encode(), b"")


def read_order(stream: BinaryIO) -> Order | None:
    """The next order; None: the server is gone."""
    prefix = stream.read(_PREFIX)
    if len(prefix) < _PREFIX:
        return None
    content = stream.read(int.from_bytes(prefix, "big"))
    try:
        values = json.loads(content)
    except ValueError:  # the pipe ended in the midst of a message
        return None
    drawing = values["drawing"]
    return Order(values["number"], None if drawing is None else Drawing(**drawing))


def pack_reply(reply: Reply) -> bytes:
    head = {**asdict(reply), "picture": len(reply.picture)}
    return _pack(json.dumps(head).encode(), reply.picture)


async def read_reply(stream: asyncio.StreamReader) -> Reply:
    """The next reply.

    Raises:
        EOFError: the worker is gone (`asyncio.IncompleteReadError`).
    """
    prefix = await stream.readexactly(_PREFIX)
    values = json.loads(await stream.readexactly(int.from_bytes(prefix, "big")))
    picture = await stream.readexactly(values["picture"])
    return Reply(**{**values, "picture": picture, "loaded": tuple(values["loaded"])})


def _pack(head: bytes, body: bytes) -> bytes:
    return len(head).to_bytes(_PREFIX, "big") + head + body
