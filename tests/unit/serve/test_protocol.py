import asyncio

import uvicorn
from uvicorn.server import ServerState

from edgekd.serve import protocol


async def _answer(content: bytes) -> bytes:
    """What a connection gets that sends this and waits."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    config = uvicorn.Config(app, http=protocol.Protocol, log_config=None, timeout_keep_alive=60)
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()

    def make():
        return protocol.Protocol(config, state, {})

    server = await loop.create_server(make, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(content)
        try:
            return await asyncio.wait_for(reader.read(), 2)
        except TimeoutError:
            return b"open"
        finally:
            writer.close()


def test_connections_that_ask_nothing_are_closed(monkeypatch):
    monkeypatch.setattr(protocol, "_FIRST_HEAD_S", 0.1)
    for content in (b"", b"GET / HTTP/1.1\r\nHost: a\r\n"):
        assert asyncio.run(_answer(content)) == b""
    # One that has asked stays for its next request.
    assert asyncio.run(_answer(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")) == b"open"
