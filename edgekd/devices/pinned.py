"""TLS to an agent whose certificate is known by its hash alone."""

from __future__ import annotations

import hashlib
import hmac
import ssl
from typing import Any

from edgekd.errors import InputError


class OtherCertificateError(InputError):
    """The other side is not the agent that is known, or somebody stands between."""


class PinnedContext(ssl.SSLContext):
    """Takes one certificate, and no other, before a byte is sent.

    Neither its names nor its dates say more than its hash does: an agent has no name, and a small
    device often no clock.

    Attributes:
        agent: its name, for the message.
        fingerprint: SHA-256 (hex) of the certificate (DER).
    """

    agent: str
    fingerprint: str

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        """See `ssl.SSLContext.wrap_socket`.

        Raises:
            OtherCertificateError: the certificate is another one.
        """
        found = super().wrap_socket(*arguments, **options)
        certificate = found.getpeercert(binary_form=True) or b""
        shown = hashlib.sha256(certificate).hexdigest()
        if not hmac.compare_digest(shown, self.fingerprint):
            found.close()
            raise OtherCertificateError(
                f"the certificate of device `{self.agent}` must have the fingerprint that is known",
                f"sha256:{shown}",
                "If its agent made a new one, take the line that it printed.",
            )
        return found


def pinned_context(agent: str, fingerprint: str) -> PinnedContext:
    """A context for one agent's certificate; `fingerprint`: SHA-256, hexadecimal."""
    context = PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the fingerprint is looked at instead
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.agent, context.fingerprint = agent, fingerprint
    return context
