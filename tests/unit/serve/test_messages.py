import asyncio
import io

import pytest

from edgekd.serve.messages import (
    Drawing,
    Order,
    Reply,
    Setup,
    pack_order,
    pack_reply,
    read_order,
    read_reply,
)

DRAWING = Drawing("m", "caf\xe9 \U0001f600\n", None, 2**63, 3, 1.5, "LCMScheduler", 64, 96, "webp")


def test_orders_come_as_they_were_sent():
    orders = [Order(7, DRAWING), Order(7)]
    stream = io.BytesIO(b"".join(map(pack_order, orders)))
    assert [read_order(stream), read_order(stream), read_order(stream)] == [*orders, None]


def test_an_order_that_breaks_off_is_none():
    packed = pack_order(Order(7, DRAWING))
    for length in range(len(packed)):
        assert read_order(io.BytesIO(packed[:length])) is None


def test_replies_come_as_they_were_sent():
    replies = [
        Reply("ready", loaded=("a", "b")),
        Reply("preview", 3, step=1, steps=4, picture=bytes(range(256)) * 300),
        Reply("failed", 3, "pictures must be finite"),
    ]

    async def read() -> list[Reply]:
        stream = asyncio.StreamReader()
        stream.feed_data(b"".join(map(pack_reply, replies)) + b"\0\0")
        stream.feed_eof()
        found = [await read_reply(stream) for _ in replies]
        with pytest.raises(EOFError):
            await read_reply(stream)
        return found

    assert asyncio.run(read()) == replies


def test_setup():
    setup = Setup({"a": "/x y/é"}, 2, None, True, False)
    assert Setup.of(setup.text()) == setup
