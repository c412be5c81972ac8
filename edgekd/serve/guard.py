"""What every request passes first: its id, who may ask, how much it may send, and the log."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgekd.serve.logs import event, log
from edgekd.serve.problems import Problem
from edgekd.serve.settings import is_loopback

MAX_BODY = 64 * 1024
_BODY_S = 10.0  # for a body to arrive
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(:[0-9]{1,5})?")
# Probes know no token; the name of a picture is its own; the page asks for the token itself.
_OPEN = ("/healthz", "/readyz", "/pictures/", "/page/")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        token: that requests must bear; None: none.
        any_host: whether the server answers to any name. Without a token it does not: a page on
            another site whose name is made to lead to this machine could use it.
        has_open_paths: whether the server has paths that need no token.
    """

    token: str | None
    any_host: bool
    has_open_paths: bool = True

    def needs_token(self, path: str) -> bool:
        """Whether a request for a path must bear the token."""
        is_open = self.has_open_paths and (path == "/" or path.startswith(_OPEN))
        return self.token is not None and not is_open


class Counts(Protocol):
    """What counts requests."""

    def count_request(self, route: str, status: int) -> None:
        """One was answered."""

    def count_error(self, code: str) -> None:
        """One was refused."""


@dataclass
class Slots:
    """How many requests may be at something at the same time."""

    free: int


@dataclass(frozen=True)
class Body:
    """What a request may send.

    Attributes:
        kind: its media type.
        max_bytes: of it.
        seconds: within which it must arrive.
        slots: of requests of this kind, from their first byte to their answer; None: any number.
    """

    kind: str = "application/json"
    max_bytes: int = MAX_BODY
    seconds: float = _BODY_S
    slots: Slots | None = None


class Guard:
    """ASGI application around another one."""

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        counts: Counts,
        body: Callable[[Scope], Body] = lambda scope: Body(),
    ) -> None:
        self._app = app
        self._access = access
        self._counts = counts
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        answer = _Answer(send, given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex)
        scope.setdefault("state", {})["request_id"] = answer.request_id
        try:
            await self._answer(scope, headers, receive, answer)
        except Exception:  # the application has answered it with status 500
            log.exception("defect", extra={"fields": {"request_id": answer.request_id}})
        finally:
            self._note(scope, answer)

    async def _answer(
        self, scope: Scope, headers: Headers, receive: Receive, answer: _Answer
    ) -> None:
        try:
            self._check(scope, headers)
            expected = self._body(scope)
            _check_kind(scope, headers, expected)
            with _slot(expected.slots):
                body = await _read_body(headers, receive, expected)
                await self._app(scope, _Replay(body, receive), answer.send)
        except Problem as problem:  # of this guard: the application answers its own
            response = problem_response(problem)
            if problem.status == 408:  # the rest of other bodies is read and forgotten: closing a
                # connection that is still written to may cost its client the answer
                response.headers["Connection"] = "close"
            await response(scope, receive, answer.send)
            self._counts.count_error(problem.code)
        except _GoneError:
            return

    def _check(self, scope: Scope, headers: Headers) -> None:
        self._check_host(headers.get("host", ""))
        if self._access.needs_token(scope["path"]):
            scheme, _, token = headers.get("authorization", "").partition(" ")
            own = self._access.token or ""
            known = hmac.compare_digest(token.strip().encode(), own.encode())
            if scheme.lower() != "bearer" or not known:
                message = "the request must bear this server's token"
                raise Problem(401, message, "invalid_api_key")

    def _check_host(self, host: str) -> None:
        """Addresses are told with what the client calls this server."""
        named = _HOST.fullmatch(host)
        if host and named is None:
            raise Problem(400, "the header `Host` must be a name or an address", "invalid_host")
        name = named[1].strip("[]").lower() if named else ""
        if not self._access.any_host and not is_loopback(name):
            message = "without a token this server answers to localhost alone"
            raise Problem(421, message, "wrong_host")

    def _note(self, scope: Scope, answer: _Answer) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self._counts.count_request(route, answer.status)
        event(
            "request",
            request_id=answer.request_id,
            method=scope["method"] if scope["method"] in _METHODS else "other",
            route=route,
            status=answer.status,
            seconds=round(time.perf_counter() - answer.started, 4),
            **scope["state"].get("fields", {}),
        )


def _check_kind(scope: Scope, headers: Headers, body: Body) -> None:
    if scope["method"] not in ("POST", "PUT", "PATCH"):
        return
    # Pages of other sites cannot send this type without asking first.
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != body.kind:
        message = f"the body must be of type {body.kind}"
        raise Problem(415, message, "unsupported_media_type")


class _Answer:
    """Sends an answer with the headers that all answers have, and remembers its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.started = time.perf_counter()
        self.status = 499  # the client went before it was answered

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


class _GoneError(Exception):
    """The client went in the midst of its request."""


class _Replay:
    """Gives the body that was read already, then what really comes: the client's end."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


@contextlib.contextmanager
def _slot(slots: Slots | None) -> Iterator[None]:
    if slots is None:
        yield
        return
    if slots.free < 1:
        message = "the server takes no more such requests at a time"
        raise Problem(429, message, "too_many_requests", retry_after=1)
    slots.free -= 1
    try:
        yield
    finally:
        slots.free += 1


async def _read_body(headers: Headers, receive: Receive, body: Body) -> bytes:
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:12]) > body.max_bytes:
        raise _too_large(body)
    try:
        return await asyncio.wait_for(_chunks(receive, body), body.seconds)
    except asyncio.TimeoutError:
        message = f"the body must arrive within {body.seconds:g} seconds"
        raise Problem(408, message, "body_timeout") from None


async def _chunks(receive: Receive, expected: Body) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _GoneError
        body += message.get("body", b"")
        if len(body) > expected.max_bytes:
            raise _too_large(expected)
        if not message.get("more_body", False):
            return bytes(body)


def _too_large(body: Body) -> Problem:
    message = f"a request must be at most {body.max_bytes} bytes long"
    return Problem(413, message, "request_too_large")


def problem_response(problem: Problem) -> JSONResponse:
    return JSONResponse(problem.body(), problem.status, problem.headers())
