"""Who may ask, and bodies that other servers than that of pictures take."""

import asyncio
import json
from typing import Any

import pytest

from edgekd.serve.guard import Access, Body, Guard, Slots


class Counts:
    """Remembers what was counted."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def count_request(self, route: str, status: int) -> None:
        self.seen.append(status)

    def count_error(self, code: str) -> None:
        self.seen.append(code)


class Served:
    """A guarded application that holds each request until it is let go."""

    def __init__(self, body: Body, any_host: bool = True) -> None:
        self.counts, self.go = Counts(), asyncio.Event()
        self.bodies: list[bytes] = []
        self.guard = Guard(self._app, Access(None, any_host), self.counts, lambda scope: body)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.bodies.append((await receive())["body"])
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def ask(self, content: bytes, kind: str, host: str = "x") -> tuple[int, str]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        headers = [(b"host", host.encode("latin-1")), (b"content-type", kind.encode())]
        scope = {"type": "http", "method": "PUT", "path": "/x", "headers": headers, "state": {}}
        await self.guard(scope, receive, send)
        answer = json.loads(sent[1]["body"])
        return sent[0]["status"], answer.get("error", {}).get("code", "")


BYTES = "application/octet-stream"


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        (b"\x00" * 100, BYTES, (200, "")),
        (b"\x00" * 101, BYTES, (413, "request_too_large")),
        (b"{}", "application/json", (415, "unsupported_media_type")),
    ],
)
def test_a_body_is_of_its_kind_and_length(content, kind, expected):
    async def test() -> tuple[int, str]:
        served = Served(Body(BYTES, 100))
        served.go.set()
        return await served.ask(content, kind)

    assert asyncio.run(test()) == expected


def test_so_many_are_taken_at_a_time():
    async def test() -> tuple[list[tuple[int, str]], tuple[int, str], int]:
        slots = Slots(2)
        served = Served(Body(BYTES, 100, slots=slots))
        first = [asyncio.create_task(served.ask(b"x", BYTES)) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        refused = await served.ask(b"y", BYTES)
        served.go.set()
        found = await asyncio.gather(*first)
        assert served.bodies == [b"x", b"x"]
        assert "too_many_requests" in served.counts.seen
        return found, refused, slots.free

    found, refused, free = asyncio.run(test())
    assert found == [(200, "")] * 2
    assert refused == (429, "too_many_requests")
    assert free == 2


@pytest.mark.parametrize(
    ("host", "any_host", "expected"),
    [
        ("localhost", False, (200, "")),
        ("LOCALHOST:8000", False, (200, "")),
        ("127.0.0.2:80", False, (200, "")),  # which a server may be bound to
        ("[::1]:8000", False, (200, "")),
        ("", False, (421, "wrong_host")),
        ("localhost.example", False, (421, "wrong_host")),
        ("192.0.2.7", False, (421, "wrong_host")),
        ("pictures.example:443", True, (200, "")),
        ("", True, (200, "")),
        ("[", True, (400, "invalid_host")),
        ("a b", True, (400, "invalid_host")),
        ("a/b", True, (400, "invalid_host")),
        ("localhost:99999999", False, (400, "invalid_host")),
        ("caf\u00e9", True, (400, "invalid_host")),
    ],
)
def test_names_of_the_server(host, any_host, expected):
    async def test() -> tuple[int, str]:
        served = Served(Body(BYTES, 100), any_host)
        served.go.set()
        return await served.ask(b"x", BYTES, host)

    assert asyncio.run(test()) == expected
