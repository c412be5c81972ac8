"""Requests to one agent, over a link that may be slow, lose packets or be cut for a while.

Every request of the protocol may be repeated: what was done already is not done twice. So whatever
breaks on the way is tried again, until the agent has been silent for as long as is waited for it.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from edgekd.devices.orders import Message
from edgekd.devices.reasons import fix_of, plain, reason_of
from edgekd.devices.schema import PROTOCOL_HEADER, AgentErrorBody, AgentErrorDetail
from edgekd.errors import InputError
from edgekd.progress import Progress, Silent, format_seconds

if TYPE_CHECKING:
    import httpx

    from edgekd.devices.listing import Entry

Answer = TypeVar("Answer", bound=BaseModel)
_MAX_ANSWER = 1 << 26  # bytes; the samples of 64 rows are a hundredth of it
_FIRST_PAUSE_S, _MOST_PAUSE_S = 0.2, 5.0
_TOLD_PAUSE_S = 0.8  # the third pause: a link that loses single packets says nothing
_NOT_THERE = "Is `edgekd agent` running there, and is the address right?"
# What a server or something before it says for a while: busy, restarting, out of reach.
_PASSING = (429, 502, 503, 504)


class LostDeviceError(InputError):
    """The agent does not answer, or lost what it was asked to do: another one could do it."""


@dataclass(frozen=True)
class Patience:
    """How long an agent is waited for.

    Attributes:
        silence_s: that it may be out of reach before it is given up.
        connect_s, read_s: of one try.
    """

    silence_s: float = 120.0
    connect_s: float = 10.0
    read_s: float = 30.0


# For a look at a device, not for work.
IMPATIENT = Patience(silence_s=0.0, connect_s=3.0, read_s=5.0)


class RefusedError(InputError):
    """The agent answered, and will not.

    Attributes:
        detail: what it said.
    """

    detail: AgentErrorDetail

    @property
    def code(self) -> str:
        """The agent's own name for it."""
        return self.detail.code


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        body: as JSON, or bytes of a file.
        wait_s: that the agent may hold its answer back.
    """

    method: str
    path: str
    query: Mapping[str, str | int] = field(default_factory=dict)
    body: Message | bytes | None = None
    wait_s: float = 0.0


class Link:
    """A connection to one agent; a context manager.

    Attributes:
        name: of the device, for messages.
        sent: bytes of files that went up.
        progress: told when the agent is silent, and when it answers again.
    """

    def __init__(
        self,
        name: str,
        entry: Entry,
        patience: Patience | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            transport: in place of TCP.

        Raises:
            InputError: a token that is not where it should be.
        """
        import httpx

        from edgekd.devices.pinned import pinned_context

        self.name = name
        self.sent = 0
        self.progress: Progress = Silent()
        self._reached = False
        self.protocol: int | None = None
        self._address = entry.address
        self._patience = patience or Patience()
        token = entry.bearer(name)
        pinned = entry.fingerprint and pinned_context(name, entry.fingerprint)
        self._client = httpx.Client(
            base_url=entry.address,
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            verify=pinned or True,
            timeout=self._timeout(0.0),
            trust_env=False,  # the token is for the agent, and for no proxy
            transport=transport,
        )

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def ask(self, request: Request, kind: type[Answer]) -> Answer:
        """The agent's answer; tried again while the link is broken.

        Raises:
            LostDeviceError: the agent is out of reach for longer than it is waited for.
            RefusedError: it answered, and will not; what it says is in the message.
            InputError: another certificate, or an answer that is none of the protocol.
        """
        status, content = self._patiently(lambda: self._once(request))
        values = self._parsed(status, content)
        if status >= 400:
            raise self._refusal(status, values)
        try:
            return kind.model_validate(values)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            raise self.stranger(f"{where}: {problem['msg']}") from None

    def once(self, request: Request) -> None:
        """Send a request and do not care: for the end of a job that nobody waits for."""
        import httpx

        try:
            self._once(request)
        except (httpx.HTTPError, InputError):
            return

    def _timeout(self, wait_s: float) -> httpx.Timeout:
        import httpx

        return httpx.Timeout(self._patience.read_s + wait_s, connect=self._patience.connect_s)

    def _once(self, request: Request) -> tuple[int, bytes]:
        headers = {} if self.protocol is None else {PROTOCOL_HEADER: str(self.protocol)}
        content: bytes | None = None
        if isinstance(request.body, bytes):
            content = request.body
            headers["Content-Type"] = "application/octet-stream"
        elif request.body is not None:
            content = request.body.model_dump_json().encode()
            headers["Content-Type"] = "application/json"
        with self._client.stream(
            request.method,
            request.path,
            params=dict(request.query),
            content=content,
            headers=headers,
            timeout=self._timeout(request.wait_s),
        ) as response:
            parts, size = [], 0
            for part in response.iter_bytes():
                size += len(part)
                if size > _MAX_ANSWER:
                    raise self.stranger(f"an answer of more than {_MAX_ANSWER} bytes")
                parts.append(part)
        if isinstance(request.body, bytes):
            self.sent += len(request.body)
        return response.status_code, b"".join(parts)

    def _patiently(self, once: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
        """Whatever breaks is tried again, after pauses that grow; a wrong address is not."""
        import httpx

        until, pause = time.monotonic() + self._patience.silence_s, _FIRST_PAUSE_S
        said = False
        while True:
            try:
                status, content = once()
                problem, self._reached = None, True
            except httpx.HTTPError as error:
                status, content, problem = 0, b"", reason_of(error)
                fix = "" if self._reached else fix_of(error)
                if fix:
                    raise self._lost(problem, fix) from None
            # A busy agent that says what it is busy with is an answer to its caller.
            passing = status in _PASSING and not _is_error_body(content)
            if problem is None and not passing:
                if said:
                    self.progress.info(f"device `{self.name}` answers again")
                return status, content
            if time.monotonic() >= until:
                raise self._lost(problem or f"status {status}")
            if pause >= _TOLD_PAUSE_S and not said:
                said, left = True, format_seconds(max(0.0, until - time.monotonic()))
                why = problem or f"status {status}"
                self.progress.info(
                    f"device `{self.name}` is silent ({why}): trying again for {left}"
                )
            # Not all hosts at once, and never past the end.
            own = pause * random.uniform(0.7, 1.3)
            time.sleep(max(0.0, min(own, until - time.monotonic())))
            pause = min(2 * pause, _MOST_PAUSE_S)

    def _lost(self, why: str, fix: str = _NOT_THERE) -> LostDeviceError:
        return LostDeviceError(f"device `{self.name}` must answer at {self._address}", why, fix)

    def _parsed(self, status: int, content: bytes) -> Any:
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise self.stranger(f"status {status} without JSON") from None

    def stranger(self, found: str) -> InputError:
        """Of what answers and is no agent."""
        rule = f"what answers at {self._address} must be an agent of edgekd"
        return InputError(rule, plain(found), "Is the address of the device right?")

    def _refusal(self, status: int, values: Any) -> InputError:
        try:
            detail = AgentErrorBody.model_validate(values).error
        except ValidationError:
            return self.stranger(f"status {status}")
        if status == 401:
            error = RefusedError(
                f"the token of device `{self.name}` must be that of its agent",
                "another one",
                "Take the line that the agent printed when it began.",
            )
        else:
            rule = f"device `{self.name}` must take what it is asked"
            error = RefusedError(rule, detail.message)
        error.detail = detail
        return error


def _is_error_body(content: bytes) -> bool:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(values, dict) and isinstance(values.get("error"), dict)


def ask_while_busy(
    link: Link, request: Request, kind: type[Answer], code: str, seconds: float = 600.0
) -> Answer:
    """As `Link.ask`; an agent that refuses with this code is asked again for so many seconds."""
    until = time.monotonic() + seconds
    while True:
        try:
            return link.ask(request, kind)
        except RefusedError as error:
            if error.code != code or time.monotonic() > until:
                raise
        time.sleep(random.uniform(1, 3))
