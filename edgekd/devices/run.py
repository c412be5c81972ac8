"""An agent from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO, Any

from edgekd.devices.certificate import Certificate, kept_certificate
from edgekd.devices.schema import AgentAddress
from edgekd.devices.settings import AgentSettings, kept_token
from edgekd.errors import InputError
from edgekd.serve.logs import event, set_up
from edgekd.serve.run import bind
from edgekd.serve.settings import is_loopback

_KEEP_ALIVE_S = 75
_LAST_ANSWERS_S = 2
_CONNECTIONS = 512
_MAX_LABEL = 32
_VALUE = re.compile(r"[0-9_-]*|0[xob][0-9a-f_]+|y|n|yes|no|on|off|true|false|null|local")
_NOWHERE = ("192.0.2.1", 9)  # RFC 5737: an address for documents


def run(settings: AgentSettings) -> None:
    """Measure for hosts until SIGTERM or SIGINT.

    Raises:
        InputError: the address or the folder is taken, the folder cannot be written, or a package
            is missing.
    """
    set_up(log_prompts=False, shown="edgekd.agent")
    folder = settings.folder
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError("the agent's folder must be writable", f"{folder} ({reason})") from None
    with _alone(folder):
        asyncio.run(_run(settings))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The folder's lock, which the system lets go of with this process.

    Raises:
        InputError: another agent has it.
    """
    with open(folder / "lock", "a+b") as stream:
        try:
            _lock(stream)
        except OSError:
            raise InputError(
                "an agent must have a folder of its own",
                f"{folder}, which another agent uses",
                "Pass another --folder.",
            ) from None
        yield


def _lock(stream: IO[bytes]) -> None:
    if os.name == "nt":
        import msvcrt

        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def _run(settings: AgentSettings) -> None:
    from edgekd.devices.app import Agent, bodies, create_app
    from edgekd.devices.jobs import Jobs
    from edgekd.devices.run_job import JobRunner
    from edgekd.devices.store import Store
    from edgekd.serve.guard import Access, Guard

    limits, name = settings.limits, settings.device_name
    token = settings.token or kept_token(settings.folder)
    certificate = _certificate(settings) if settings.encrypted else None
    fingerprint = certificate.fingerprint() if certificate else None
    store = Store(settings.folder, limits.file_bytes, limits.store_bytes)
    jobs = Jobs(JobRunner(store, limits, name), limits)
    app = create_app(Agent(name, settings.device_class, limits, store, jobs))
    listener = bind(settings.host, settings.port)
    try:
        listener.listen()  # whoever reads the line below is not refused
        jobs.open()
        address = _address(settings.host, listener, certificate is not None)
        event("listening", url=address, device=name)
        _say(name, AgentAddress(address=address, fingerprint=fingerprint, token=token), settings)
        access = Access(token, any_host=True, has_open_paths=False)
        guarded = Guard(app, access, NoCounts(), bodies(limits))
        await _server(guarded, certificate).serve(sockets=[listener])
    finally:
        listener.close()
        await jobs.close()
    event("ended")


class NoCounts:
    """An agent counts nothing: its log has every request."""

    def count_request(self, route: str, status: int) -> None:
        """See `edgekd.serve.guard.Counts`."""

    def count_error(self, code: str) -> None:
        """See `edgekd.serve.guard.Counts`."""


def _server(app: Any, certificate: Certificate | None) -> Any:
    import uvicorn

    from edgekd.serve.protocol import Protocol

    class AgentServer(uvicorn.Server):
        """Ends at once: a host that waits for a job asks again, and finds no agent."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            self.should_exit = self.force_exit = True

    config = uvicorn.Config(
        app,
        http=Protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_LAST_ANSWERS_S,
        limit_concurrency=_CONNECTIONS,
        ssl_certfile=certificate.certificate if certificate else None,
        ssl_keyfile=certificate.key if certificate else None,
    )
    return AgentServer(config)


def _certificate(settings: AgentSettings) -> Certificate:
    if settings.tls.certificate is not None and settings.tls.key is not None:
        return Certificate(settings.tls.certificate, settings.tls.key)
    return kept_certificate(settings.folder)


def _address(host: str, listener: socket.socket, encrypted: bool) -> str:
    """The address under which hosts find a listener."""
    place, port = listener.getsockname()[:2]
    name = _own_address(place) if place in ("0.0.0.0", "::") else host
    shown = f"[{name}]" if ":" in name else name
    return f"{'https' if encrypted else 'http'}://{shown}:{port}"


def _own_address(place: str) -> str:
    """This machine's address on the way to others; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_NOWHERE)
        except OSError:
            return place
        return str(probe.getsockname()[0])


def _say(name: str, address: AgentAddress, settings: AgentSettings) -> None:
    """How hosts get to know this agent, on stdout; the log is on stderr."""
    fields = address.model_dump(exclude_none=True)
    # A token of one's own may have quotes; the line stands between single ones in a shell.
    parts = [f"{key}: {json.dumps(value)}".replace("'", r"\u0027") for key, value in fields.items()]
    ways = "run `edgekd devices add 'LINE'` with this line, or paste it under `devices:`"
    print(f"On the host, {ways} in devices.yaml:", flush=True)
    print(f"  {_label(name)}: {{{', '.join(parts)}}}", flush=True)
    if address.fingerprint is None and not is_loopback(settings.host):
        print("Without TLS the token crosses the network as it is.", flush=True)


def _label(name: str) -> str:
    """A name as `devices.yaml` takes it: see `edgekd.devices.listing.check_name`."""
    plain = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_")[:_MAX_LABEL]
    # YAML reads some of these as values: on, off, numbers, days; `local` is the host itself.
    return f"agent-{plain}".strip("-")[:_MAX_LABEL] if _VALUE.fullmatch(plain) else plain
