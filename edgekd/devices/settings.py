"""What an agent is started with."""

from __future__ import annotations

import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from edgekd.devices.describe import default_memory, default_name
from edgekd.devices.schema import DeviceLimits
from edgekd.errors import InputError
from edgekd.measure.environment import cores
from edgekd.serve.settings import is_loopback

CHUNK_BYTES = 4 << 20
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def make_limits(
    file_bytes: int,
    store_bytes: int,
    job_s: float,
    lease_s: float,
    memory_bytes: int | None,
    queue: int,
    threads: int | None,
) -> DeviceLimits:
    """Limits of an agent; None: as the machine has it.

    Raises:
        InputError: one that no job could keep.
    """
    found = {
        "max-file": file_bytes,
        "quota": store_bytes,
        "job-time": job_s,
        "lease": lease_s,
        "memory": default_memory() if memory_bytes is None else memory_bytes,
        "queue": queue,
        "threads": cores() if threads is None else threads,
    }
    for name, value in found.items():
        if not 1 <= value < float("inf"):
            raise InputError(f"`{name} >= 1` must hold", f"{name}={value}")
    return DeviceLimits(
        file_bytes=file_bytes,
        store_bytes=store_bytes,
        chunk_bytes=CHUNK_BYTES,
        job_s=job_s,
        lease_s=lease_s,
        memory_bytes=int(found["memory"]),
        queue=queue,
        threads=int(found["threads"]),
    )


@dataclass(frozen=True)
class Tls:
    """How connections are encrypted.

    Attributes:
        off: not at all.
        certificate, key: PEM files of one's own; None: made once, and pinned by its fingerprint.
    """

    off: bool = False
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InputError("`certificate` and `key` must be given together", "one of them")
        if self.off and self.certificate is not None:
            raise InputError("`no-tls` and `certificate` exclude each other", "both")


@dataclass(frozen=True)
class AgentSettings:
    """An agent's settings.

    Attributes:
        folder: of its files, its certificate and its token.
        token: that requests must bear; None: the folder's, which is made once.
        name: of the device, for its host.
        device_class: see `edgekd.devices.schema.Description`; None: told from the processor.
        tls: without one's own certificate, loopback is not encrypted.
    """

    folder: Path
    limits: DeviceLimits
    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    name: str | None = None
    device_class: str | None = None
    tls: Tls = Tls()

    def __post_init__(self) -> None:
        if not 0 <= self.port < 1 << 16:
            raise InputError("`0 <= port < 65536` must hold", f"port={self.port}")
        for what, text in (("name", self.name), ("class", self.device_class)):
            if text is not None and not (text.isprintable() and 0 < len(text) <= 200):
                raise InputError(f"`{what}` must be 1 to 200 printable letters", repr(text[:50]))
        if self.token is not None:
            check_token(self.token)

    @property
    def encrypted(self) -> bool:
        """Whether connections are."""
        if self.tls.off:
            return False
        return self.tls.certificate is not None or not is_loopback(self.host)

    @property
    def device_name(self) -> str:
        return self.name or default_name()


def check_token(token: str) -> None:
    """Whether a token can be in a header, and is not easily guessed.

    Raises:
        InputError: it is not so.
    """
    if not (16 <= len(token) <= 256 and all("!" <= letter <= "~" for letter in token)):
        raise InputError(
            "a token must be 16 to 256 printable ASCII characters without spaces",
            f"{len(token)} characters",
        )


def default_folder() -> Path:
    """Where programs of this system keep such files, of this user alone."""
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData/Local") / "edgekd-agent"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "edgekd-agent"
    return Path(os.environ.get("XDG_STATE_HOME") or home / ".local/state") / "edgekd-agent"


def kept_token(folder: Path) -> str:
    """The token of a folder; made when there is none.

    Raises:
        InputError: the file holds something else.
    """
    path = folder / "token"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24).encode())
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise InputError(f"`{path}` must hold the agent's token", str(error)) from None
    check_token(token)
    return token


def write_private(path: Path, content: bytes) -> None:
    """Write a file whole or not at all that this user alone may read.

    Raises:
        InputError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(os.open(temporary, _NEW, 0o600), "wb") as stream:
            stream.write(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise InputError("the agent's folder must be writable", f"{path} ({reason})") from None
