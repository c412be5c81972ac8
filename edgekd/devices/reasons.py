"""Why a request to an agent broke, in a few words, and what mends it."""

from __future__ import annotations

import re
import socket
import ssl
from typing import TYPE_CHECKING

from edgekd.devices.plain_text import MAX_LETTERS

if TYPE_CHECKING:
    import httpx

# What OpenSSL calls an answer that is no TLS.
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")


def reason_of(error: httpx.HTTPError) -> str:
    """What broke, in a few words."""
    import httpx

    if isinstance(error, httpx.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return plain(str(error)) or type(error).__name__


def fix_of(error: BaseException) -> str:
    """The way out of what waiting does not mend; empty: waiting may.

    httpx keeps what Python raised as the cause.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLCertVerificationError):
            return "Give the `fingerprint` that the agent printed."
        if isinstance(found, ssl.SSLError) and found.reason in _NO_TLS:
            return "What answers there speaks no TLS: an agent without TLS has an http:// address."
        if isinstance(found, socket.gaierror) and found.errno == socket.EAI_NONAME:
            return "No machine of this name is known here: is the address right?"
        found = found.__cause__ or found.__context__
    return ""


def plain(text: str) -> str:
    """Words of another machine as a part of one line: no control characters, no end of them."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return re.sub(r"\s+", " ", printable).strip()[:MAX_LETTERS]
