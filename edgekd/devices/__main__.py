"""`python -m edgekd.devices`: an agent without the rest of edgekd."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgekd.devices.options import AgentOptions
from edgekd.errors import EdgekdError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edgekd.devices",
        description="Measure models that a host sends; needs no torch.",
        argument_default=argparse.SUPPRESS,
    )
    option = parser.add_argument
    option("--host", help="0.0.0.0: other machines too, over TLS")
    option("--port", type=int, help="8421; 0: a free one")
    option("--token", help="that requests must bear; better: the variable EDGEKD_TOKEN")
    option("--name", help="of this device, for the host")
    option("--class", dest="device_class", help="devices of one class share work")
    option("--folder", type=Path, help="of its files, certificate and token")
    option("--certificate", type=Path, help="PEM file; else a self-signed one, pinned")
    option("--key", type=Path, help="PEM file of the certificate's key")
    option("--no-tls", action="store_true", help="not even for other machines")
    option("--threads", type=int, help="that a model may run on; else all cores")
    option("--memory-limit", help="of a measuring process, such as 2G; else 80 %% of all")
    option("--max-file", help="size of a file; 1G")
    option("--quota", help="of all files together; 10G")
    option("--queue", type=int, help="jobs that may wait; 8")
    option("--job-time", type=float, help="seconds of a job; 3600")
    option("--lease", type=float, help="seconds until a job ends that nobody asks for; 120")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = AgentOptions(**vars(_parser().parse_args(arguments)))
    try:
        options.start()
    except EdgekdError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
