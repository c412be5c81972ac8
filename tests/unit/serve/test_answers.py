"""Streams whose clients go, read slowly, or are still there when the server stops."""

import asyncio
import json
import logging
import signal
from typing import Any

import pytest
from fixtures.workers import FakeWorker
from sse_starlette.sse import AppStatus

BODY = json.dumps({"prompt": "a", "stream": True}).encode()


class Client:
    """A client of one stream.

    Args:
        stays: whether it is still there when its request was read.
        takes_s: by kind of message, how long it takes it to read one.
    """

    def __init__(self, stays: bool = True, **takes_s: float) -> None:
        self.stays, self.takes_s = stays, takes_s
        self.read = b""
        self.asked = False

    async def receive(self) -> dict[str, Any]:
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": BODY, "more_body": False}
        if self.stays:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        await asyncio.sleep(self.takes_s.get(message["type"].rpartition(".")[2], 0))
        self.read += message.get("body", b"")

    async def ask(self, app: Any) -> None:
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {
            **{"type": "http", "method": "POST", "path": "/v1/images/generations"},
            **{"headers": headers, "query_string": b"", "http_version": "1.1"},
        }
        await asyncio.wait_for(app(scope, self.receive, self.send), 20)


def drawn(start: Any, client: Client, worker: FakeWorker) -> None:
    """Ask, and let the worker answer once it has its order, if it answers."""

    async def main() -> None:
        app, dispatcher = await start([worker])
        asking = asyncio.create_task(client.ask(app))
        for _ in range(40):
            await asyncio.sleep(0)
        if worker.orders and not worker.stopped:
            worker.reply("picture")
        await asking
        await dispatcher.close()

    asyncio.run(main())


def test_a_client_that_goes_before_its_stream_begins(start):
    worker = FakeWorker(answers=None)
    drawn(start, Client(stays=False, start=5.0), worker)
    assert worker.stopped == [order.number for order in worker.orders]


def test_a_client_that_does_not_read(start, monkeypatch, caplog):
    monkeypatch.setattr("edgekd.serve.answers._SLOW_CLIENT_S", 0.01)
    with caplog.at_level(logging.INFO, "edgekd.serve"):
        drawn(start, Client(body=10.0), FakeWorker(answers=None))
    names = [record.getMessage() for record in caplog.records]
    assert "slow client" in names
    assert "defect" not in names


def test_a_stream_is_whole_when_the_server_stops(start, monkeypatch):
    class Server:
        should_exit = True

        def handle(self, *_: object) -> None:
            """Is what sse-starlette finds a server of uvicorn's by."""

    monkeypatch.setattr(signal, "getsignal", lambda number: Server().handle)
    monkeypatch.setattr(AppStatus, "enable_automatic_graceful_drain", True)
    client = Client()
    drawn(start, client, FakeWorker(answers=None))
    assert b"event: image_generation.completed" in client.read


@pytest.mark.parametrize("kind", ["failed", "picture"])
def test_nothing_is_stopped_that_has_ended(start, kind):
    worker = FakeWorker(answers=kind)
    drawn(start, Client(), worker)
    assert worker.stopped == []
