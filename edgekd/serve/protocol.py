"""HTTP as uvicorn reads it, with this API's error for what is none."""

from __future__ import annotations

import json
from asyncio import Transport

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgekd.serve import problems

_BODY = json.dumps(problems.invalid("a request must be HTTP/1.1", code="invalid_http").body())
_NO_HTTP = (
    "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n"
    f"X-Content-Type-Options: nosniff\r\nContent-Length: {len(_BODY)}\r\n\r\n{_BODY}"
).encode("ascii")


_FIRST_HEAD_S = 30.0  # for a connection's first request to arrive, up to its body


class Protocol(H11Protocol):
    """h11, also where httptools is installed, which takes headers of any length into memory.

    Connections that ask nothing are closed: uvicorn waits for a first request for ever.
    """

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self.loop.call_later(_FIRST_HEAD_S, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; in the midst of an answer there is no place for another."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(_NO_HTTP)
        self.transport.close()
