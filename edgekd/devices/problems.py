"""Why an agent refuses a request: see `edgekd.devices.schema.AgentErrorDetail`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from edgekd.devices.schema import PROTOCOLS
from edgekd.serve.problems import Problem


@dataclasses.dataclass(eq=False)
class AgentProblem(Problem):
    """A problem with what a host needs to go on."""

    missing: Sequence[str] | None = None
    received: int | None = None

    def body(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {**super().body()}
        extra = {"missing": self.missing, "received": self.received}
        found["error"] |= {name: value for name, value in extra.items() if value is not None}
        return found


def unsupported_protocol() -> Problem:
    spoken = ", ".join(map(str, PROTOCOLS))
    return Problem(
        400,
        f"this agent speaks version {spoken} of the protocol of devices: install the same version "
        "of edgekd-runtime here as of edgekd on the host",
        "unsupported_protocol",
    )


def missing_files(digests: Sequence[str]) -> Problem:
    message = f"{len(digests)} files of this job must be uploaded first"
    return AgentProblem(409, message, "missing_files", missing=digests)


def wrong_offset(received: int) -> Problem:
    message = f"the next chunk of this file begins at byte {received}"
    return AgentProblem(409, message, "wrong_offset", received=received)


def wrong_size(size: int) -> Problem:
    return Problem(409, f"this file was said to have {size} bytes", "wrong_size", "size")


def file_too_large(limit: int) -> Problem:
    message = f"a file must have at most {limit} bytes; the agent's --max-file raises it"
    return Problem(413, message, "file_too_large", "size")


def store_full(limit: int) -> Problem:
    message = (
        f"the agent keeps at most {limit} bytes of files, and jobs need those that it has; "
        "its --quota raises it"
    )
    return Problem(413, message, "store_full", retry_after=10)


def disk_full() -> Problem:
    return Problem(413, "the agent's disk has no room for this file", "disk_full")


def hash_mismatch() -> Problem:
    message = "the bytes of the file are not those of its hash; upload it again from its beginning"
    return Problem(422, message, "hash_mismatch")


def job_differs() -> Problem:
    return Problem(409, "another job has this id", "job_differs")


def not_found(what: str) -> Problem:
    return Problem(404, f"there is no such {what}, or not any more", "not_found")
