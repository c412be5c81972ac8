"""Errors as OpenAI's clients read them: {"error": {message, type, param, code}}."""

from __future__ import annotations

from dataclasses import dataclass

INVALID = "invalid_request_error"
SERVER = "server_error"


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818
    """Why a request is not answered with a picture.

    Attributes:
        status: of HTTP.
        param: the field of the request, if one is to blame.
        retry_after: seconds after which the same request may succeed.
    """

    status: int
    message: str
    code: str
    param: str | None = None
    retry_after: int | None = None

    @property
    def kind(self) -> str:
        named = {401: "authentication_error", 429: "rate_limit_error"}
        return named.get(self.status, SERVER if self.status >= 500 else INVALID)

    def body(self) -> dict[str, dict[str, str | None]]:
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def headers(self) -> dict[str, str]:
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> Problem:
    return Problem(400, message, code, param)


def queue_full(retry_after: int) -> Problem:
    return Problem(429, "the queue is full", "queue_full", retry_after=retry_after)


def shutting_down() -> Problem:
    return Problem(503, "the server is shutting down", "shutting_down", retry_after=5)


def worker_lost() -> Problem:
    message = "the process that drew this picture has ended; the same request may succeed"
    return Problem(503, message, "worker_lost", retry_after=1)


def timed_out(seconds: float) -> Problem:
    message = f"the pictures were not ready within {seconds:g} seconds"
    return Problem(504, message, "timeout", retry_after=1)


def drawing_failed(message: str) -> Problem:
    return Problem(500, message, "drawing_failed")
