import asyncio
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from fixtures.workers import FakeWorker

from edgekd.errors import InputError
from edgekd.serve.process import WorkerProcess
from edgekd.serve.run import _run, bind
from edgekd.serve.settings import ServeSettings


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "192.0.2.1"])
def test_an_address_that_cannot_be_bound(host):
    with pytest.raises(InputError, match="the address must be free to listen on, but got"):
        bind(host, 0)


def test_whoever_reads_the_address_is_not_refused(described, monkeypatch):
    class ConnectedError(Exception):
        """The address was told, and there was somebody."""

    def event(name: str, **fields: Any) -> None:
        address = urlsplit(fields["url"])
        with socket.create_connection((address.hostname, address.port), timeout=10):
            raise ConnectedError

    async def start(setup: object) -> FakeWorker:
        return FakeWorker()

    monkeypatch.setattr("edgekd.serve.run.event", event)
    monkeypatch.setattr(WorkerProcess, "start", start)
    with pytest.raises(ConnectedError):
        asyncio.run(_run(ServeSettings({"starter": described}, port=0)))
