"""A certificate that nobody but its fingerprint vouches for."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

from edgekd.devices.settings import write_private
from edgekd.errors import InputError

# Devices without a clock of their own begin in the past.
_FROM = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)
_UNTIL = datetime.datetime(2049, 1, 1, tzinfo=datetime.timezone.utc)


@dataclass(frozen=True)
class Certificate:
    """Two PEM files."""

    certificate: Path
    key: Path

    def fingerprint(self) -> str:
        """`sha256:<hex>` of the certificate, as hosts pin it.

        Raises:
            InputError: the files are no certificate and its key.
        """
        try:
            # With a password nobody is asked for one.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate, self.key, password="")
            text = self.certificate.read_text(encoding="ascii")
            begin = text.index("-----BEGIN CERTIFICATE-----")
            end = text.index("-----END CERTIFICATE-----", begin) + len("-----END CERTIFICATE-----")
            der = ssl.PEM_cert_to_DER_cert(text[begin:end])  # the first one is the server's
        except (OSError, ValueError) as error:  # ssl's errors are of OSError
            raise InputError(
                "certificate and key must be PEM files that belong together",
                f"{self.certificate} and {self.key} ({error})",
            ) from None
        return f"sha256:{hashlib.sha256(der).hexdigest()}"


def kept_certificate(folder: Path) -> Certificate:
    """The self-signed certificate of a folder; made when there is none.

    Raises:
        InputError: `cryptography` is not installed, or the folder cannot be written.
    """
    found = Certificate(folder / "certificate.pem", folder / "key.pem")
    if not (found.certificate.exists() and found.key.exists()):
        certificate, key = _make()
        write_private(found.key, key)
        write_private(found.certificate, certificate)
    return found


def _make() -> tuple[bytes, bytes]:
    """Certificate and key, PEM: ECDSA on P-256."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise InputError(
            "cryptography must be installed to make a certificate",
            "no such package",
            "Install edgekd-runtime with its extra `agent`, or pass --certificate and --key.",
        ) from None
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edgekd agent")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private
