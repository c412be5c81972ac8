"""`edgekd agent`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekd.devices.options import AgentOptions

_DEFAULT = AgentOptions()


def agent(
    host: Annotated[
        str, typer.Option("--host", help="0.0.0.0: other machines too, over TLS.")
    ] = _DEFAULT.host,
    port: Annotated[int, typer.Option("--port", help="0: a free one.")] = _DEFAULT.port,
    token: Annotated[
        str | None,
        typer.Option("--token", help="That requests must bear; better: EDGEKD_TOKEN."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Of this device.")] = None,
    device_class: Annotated[
        str | None, typer.Option("--class", help="Devices of one class share work.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Of its files, certificate and token.")
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", help="PEM file. Default: a self-signed one, pinned."),
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="PEM file of its key.")] = None,
    no_tls: Annotated[bool, typer.Option("--no-tls", help="Not even for other machines.")] = False,
    threads: Annotated[
        int | None, typer.Option("--threads", help="That a model may run on. Default: all cores.")
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            "--memory-limit", help="Of a measuring process, such as 2G. Default: 80 % of all."
        ),
    ] = None,
    max_file: Annotated[str, typer.Option("--max-file", help="Size of a file.")] = (
        _DEFAULT.max_file
    ),
    quota: Annotated[str, typer.Option("--quota", help="Of all files.")] = _DEFAULT.quota,
    queue: Annotated[int, typer.Option("--queue", help="Jobs that may wait.")] = _DEFAULT.queue,
    job_time: Annotated[
        float, typer.Option("--job-time", help="Seconds of a job.")
    ] = _DEFAULT.job_time,
    lease: Annotated[
        float, typer.Option("--lease", help="Seconds until a job ends that nobody asks for.")
    ] = _DEFAULT.lease,
) -> None:
    """Measure models that other machines send: be one of their devices."""
    AgentOptions(
        host, port, token, name, device_class, folder, certificate, key, no_tls, threads,
        memory_limit, max_file, quota, queue, job_time, lease,
    ).start()  # fmt: skip
