"""The load generator finds what a server does wrong."""

import asyncio
import base64
import json

from tools.serve.load import Load, run


def answers(mix_up: bool) -> dict[str, object]:
    """A server in this process that is full at every third request, and may mix pictures up."""
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                writer.close()
                return
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            if head.startswith(b"GET /metrics"):
                reply, status = b'edgekd_memory_bytes{process="server"} 2097152', 200
            else:
                seen += 1
                picture = body if not mix_up or seen <= 8 else b"another"
                content = base64.b64encode(picture).decode()
                reply, status = json.dumps({"data": [{"b64_json": content}]}).encode(), 200
                if seen > 8 and seen % 3 == 0:
                    reply, status = b"{}", 429
            lines = f"HTTP/1.1 {status} X\r\nContent-Length: {len(reply)}\r\nRetry-After: 0\r\n\r\n"
            writer.write(lines.encode() + reply)

    async def main() -> dict[str, object]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        result = await run(Load(f"http://127.0.0.1:{port}", None, 4, 30.0, 20, None))
        server.close()
        await asyncio.sleep(0.05)  # connections end too
        return result

    return asyncio.run(main())


def test_every_picture_belongs_to_its_request():
    result = answers(mix_up=False)
    assert (result["pictures"], result["mixed_up"]) == (20, 0)
    statuses = result["statuses"]
    assert isinstance(statuses, dict)
    assert statuses["200"] == 20
    assert statuses["429"] >= 9
    assert result["memory_mib"] == [{"server": 2}] * 21


def test_pictures_of_others_are_counted():
    assert answers(mix_up=True)["mixed_up"] == 20
