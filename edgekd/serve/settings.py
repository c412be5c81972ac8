"""What a server is started with."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgekd.errors import InputError
from edgekd.serve.limits import TOKEN_VARIABLE, Limits

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class Privacy:
    """Where prompts may be written.

    Attributes:
        embed_prompt: into the parameters in PNG files.
        log_prompts: into the log.
    """

    embed_prompt: bool = False
    log_prompts: bool = False


@dataclass(frozen=True)
class ServeSettings:
    """A server's settings.

    Attributes:
        models: exported folders by the names that requests give; the first is the default.
        token: what requests must bear; None: nothing, on the loopback device alone.
        workers: processes that draw, one picture at a time each.
        threads: of a worker; 0: the cores divided among the workers, or with one worker as the
            export says.
    """

    models: dict[str, Path]
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    workers: int = 1
    threads: int = 0
    limits: Limits = field(default_factory=Limits)
    privacy: Privacy = Privacy()

    def __post_init__(self) -> None:
        limits = self.limits
        for name, value, low in (
            ("workers", self.workers, 1),
            ("threads", self.threads, 0),
            ("queue", limits.queue, 1),
            ("pixels", limits.pixels, 1),
        ):
            if value < low:
                raise InputError(f"`{name} >= {low}` must hold", f"{name}={value}")
        for name, seconds in (("timeout", limits.timeout_s), ("grace", limits.grace_s)):
            if not 0 < seconds < float("inf"):
                raise InputError(f"`0 < {name} < inf` must hold", f"{name}={seconds}")
        if not 0 <= self.port < 1 << 16:
            raise InputError("`0 <= port < 65536` must hold", f"port={self.port}")
        if not is_loopback(self.host) and self.token is None:
            raise InputError(
                "a server that other machines reach must have a token",
                f"host={self.host} and no token",
                f"Set the variable {TOKEN_VARIABLE}, or bind 127.0.0.1 behind a proxy.",
            )
        if self.token is not None and not re.fullmatch(r"[!-~]{8,256}", self.token):
            raise InputError(
                "a token must be 8 to 256 printable ASCII characters without spaces",
                f"{len(self.token)} characters",
            )

    @property
    def worker_threads(self) -> int:
        if self.threads or self.workers == 1:
            return self.threads
        return max(1, _usable_cores() // self.workers)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that binds `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def token_from(option: str | None) -> str | None:
    """The option, or else the environment's; an empty one is none."""
    return option or os.environ.get(TOKEN_VARIABLE) or None


def parse_models(texts: Sequence[str]) -> dict[str, Path]:
    """`EXPORT`, which is called as its folder, or `NAME=EXPORT`.

    Raises:
        InputError: a name that is no identifier, or that two folders have.
    """
    models: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or Path(text).is_dir():
            name, path = Path(text).resolve().name, text
        if not _NAME.fullmatch(name):
            raise InputError(
                "a model's name must be letters, digits, `.`, `_` and `-`",
                repr(name),
                "Write NAME=EXPORT.",
            )
        if name in models:
            raise InputError(
                "models must have names of their own", f"`{name}` twice", "Write NAME=EXPORT."
            )
        models[name] = Path(path).resolve()
    if not models:
        raise InputError("a server must have at least one model", "none")
    return models


def parse_bytes(text: str) -> int:
    """`2G`, `512M`, `64K` or a number of bytes.

    Raises:
        InputError: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)", text.strip().upper().removesuffix("B"))
    if match is None or float(match[1]) == 0:
        raise InputError("an amount of memory must be a number above 0, with K, M or G", repr(text))
    return int(float(match[1]) * _UNITS[match[2]])


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
