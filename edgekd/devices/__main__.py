"""`python -m edgekd.devices`: an agent without the rest of edgekd."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgekd.errors import EdgekdError, InputError
from edgekd.serve.settings import TOKEN_VARIABLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edgekd.devices",
        description="Measure models that a host sends; needs no torch.",
    )
    option = parser.add_argument
    option("--host", default="127.0.0.1", help="0.0.0.0: other machines too, over TLS")
    option("--port", type=int, help="0: a free one")
    option("--token", help=f"that requests must bear; better: {TOKEN_VARIABLE}")
    option("--name", help="of this device, for the host")
    option("--class", dest="device_class", help="devices of one class share work")
    option("--folder", type=Path, help="of its files, certificate and token")
    option("--certificate", type=Path, help="PEM file; default: a self-signed one, pinned")
    option("--key", type=Path, help="PEM file of the certificate's key")
    option("--no-tls", action="store_true", help="not even for other machines")
    option("--threads", type=int, help="that a model may run on; default: all cores")
    option("--memory-limit", help="of a measuring process, such as 2G; default: 80 %% of all")
    option("--max-file", default="1G", help="largest file")
    option("--quota", default="10G", help="of all files together")
    option("--queue", type=int, default=8, help="jobs that may wait")
    option("--job-time", type=float, default=3600.0, help="seconds of a job")
    option("--lease", type=float, default=120.0, help="seconds until an unasked job is cancelled")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        serve(options)
    except EdgekdError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def serve(options: argparse.Namespace) -> None:
    """Start an agent.

    Raises:
        InputError: as `edgekd.devices.run.run`.
    """
    try:
        from edgekd.devices.run import run
        from edgekd.devices.settings import PORT, AgentSettings, Tls, default_folder, make_limits
        from edgekd.serve.settings import parse_bytes, token_from
    except ImportError as error:
        raise InputError(
            "the packages of an agent must be installed",
            f"no {error.name}",
            "Run `pip install 'edgekd-runtime[agent,onnx]'`.",
        ) from None
    memory = options.memory_limit
    limits = make_limits(
        file_bytes=parse_bytes(options.max_file),
        store_bytes=parse_bytes(options.quota),
        job_s=options.job_time,
        lease_s=options.lease,
        memory_bytes=None if memory is None else parse_bytes(memory),
        queue=options.queue,
        threads=options.threads,
    )
    run(
        AgentSettings(
            folder=(options.folder or default_folder()).absolute(),
            limits=limits,
            host=options.host,
            port=PORT if options.port is None else options.port,
            token=token_from(options.token),
            name=options.name,
            device_class=options.device_class,
            tls=Tls(options.no_tls, options.certificate, options.key),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
