"""What a host and an agent say to each other, in version 1 of their protocol.

Everything that crosses is one of these messages as JSON, but for the bytes of files. Every request
bears `Authorization: Bearer <token>`, and all but the hello the header `PROTOCOL_HEADER`.

    GET    /v1/hello                                     -> Description
    GET    /v1/clock                                     -> ClockReading
    POST   /v1/blobs                 BlobQuery           -> BlobStates
    GET    /v1/blobs/<digest>                            -> BlobState
    PUT    /v1/blobs/<digest>?offset=<o>&size=<s> bytes  -> BlobState
    PUT    /v1/jobs/<id>             JobRequest          -> JobStatus, 202
    GET    /v1/jobs/<id>?wait=<s>                        -> JobStatus
    DELETE /v1/jobs/<id>                                 -> JobStatus

A file is uploaded in order, in chunks of at most `DeviceLimits.chunk_bytes` bytes of type
`application/octet-stream`; a chunk is taken whole or not at all, so that an interrupted upload goes
on from `BlobState.received`. A job that was submitted already is not submitted twice. `wait` holds
the answer back until the job's state changes, at most so many seconds; a job that nobody asks for
within `DeviceLimits.lease_s` is cancelled. Answers that are no success are an `AgentErrorBody`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, field_validator

from edgekd.devices.names import MAX_FILES
from edgekd.devices.orders import Digest, Job, Label, Message, Words
from edgekd.devices.reasons import plain
from edgekd.devices.results import Result
from edgekd.errors import InputError

PROTOCOLS = (1,)  # that this version of edgekd speaks, as a host and as an agent
PROTOCOL_HEADER = "Edgekd-Protocol"  # the version that a request is in
MAX_WAIT_S = 30.0

JobId: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="made by the host")]


class Hello(BaseModel):
    """The part of every version's answer to a hello that decides whether the rest can be read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    protocols: tuple[int, ...] = Field(..., min_length=1, max_length=100)


def common_protocol(theirs: Iterable[int], agent: str) -> int:
    """The newest version of the protocol that both sides speak.

    Args:
        theirs: of the agent.
        agent: its name, for the message.

    Raises:
        InputError: there is none.
    """
    both = set(theirs) & set(PROTOCOLS)
    if not both:
        raise InputError(
            f"the agent `{agent}` must speak version {' or '.join(map(str, PROTOCOLS))} of the "
            "protocol of devices",
            f"one that speaks {', '.join(map(str, sorted(theirs)))}",
            "Install the same version of edgekd-runtime there as of edgekd here.",
        )
    return max(both)


class RuntimeInfo(Message):
    """A runtime that the device knows.

    Attributes:
        runs: it is installed, and this system executes it.
        versions: of its packages that are installed.
    """

    name: Words
    runs: bool
    versions: dict[Words, Words]


class DeviceLimits(Message):
    """What a device accepts; seconds, bytes and counts.

    Attributes:
        file_bytes: of one file.
        store_bytes: of all files together; the least recently used leave for new ones.
        chunk_bytes: of one request that uploads.
        job_s: of a job from its start to its end.
        lease_s: for which a job lives that nobody asks for.
        memory_bytes: of the process that measures.
        queue: jobs that wait.
        threads: that a model may run on.
    """

    file_bytes: int
    store_bytes: int
    chunk_bytes: int
    job_s: float
    lease_s: float
    memory_bytes: int
    queue: int
    threads: int


class Description(Message):
    """What a device is; the answer to a hello.

    Attributes:
        name: as its owner calls it.
        device_class: devices of one class share work: their times are of one population.
        edgekd: its version there.
        environment: see `edgekd.measure.environment.environment`: cpu, cores, ram_bytes, os,
            machine, python, versions.
        limits: null: none, of the host's own machine.
    """

    protocols: tuple[int, ...] = PROTOCOLS
    name: Annotated[Label, AfterValidator(plain)]
    device_class: Annotated[Label, AfterValidator(plain)]
    edgekd: Words
    environment: dict[str, JsonValue]
    runtimes: tuple[RuntimeInfo, ...]
    limits: DeviceLimits | None

    @property
    def runs(self) -> dict[str, dict[str, str]]:
        """Versions of the packages of each runtime that runs there."""
        return {one.name: one.versions for one in self.runtimes if one.runs}


def checked_address(value: str) -> str:
    """An agent's address without a slash at its end.

    Raises:
        ValueError: it is none; the value is not said, for a token may have been put there.
    """
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = urlsplit("")
    rest = parts.path.strip("/") + parts.query + parts.fragment + (parts.username or "")
    spaced = any(letter.isspace() for letter in value)
    if parts.scheme not in ("http", "https") or not parts.hostname or rest or spaced:
        raise ValueError("must be https://HOST:PORT or http://HOST:PORT")
    try:
        port = parts.port
    except ValueError:
        port = None
    if port is None:
        raise ValueError("must name a port from 1 to 65535: https://HOST:PORT")
    return value.rstrip("/")


def checked_fingerprint(value: str | None) -> str | None:
    """`sha256:` and the digits, of a fingerprint with or without colons, as tools print it.

    Raises:
        ValueError: it is none.
    """
    if value is None:
        return None
    plain = value.lower().removeprefix("sha256:").replace(":", "")
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise ValueError("must be the 64 hexadecimal digits of a SHA-256")
    return f"sha256:{plain}"


class AgentAddress(Message):
    """Where an agent is: an entry of `devices.yaml`, as the agent prints it at its start.

    Attributes:
        fingerprint: `sha256:<hex>` of the certificate (DER) of an https address; null: the address
            is http, or the system's authorities vouch for the certificate.
    """

    address: str
    fingerprint: str | None = None
    token: str

    _address = field_validator("address")(checked_address)
    _fingerprint = field_validator("fingerprint")(checked_fingerprint)

    @field_validator("token")
    @classmethod
    def _is_a_token(cls, value: str) -> str:
        if not re.fullmatch(r"[!-~]{8,256}", value):
            raise ValueError("must be 8 to 256 printable ASCII characters without spaces")
        return value


class ClockReading(Message):
    """Nanoseconds of the device's monotonic clock, to be compared with the host's own."""

    monotonic_ns: int


class BlobQuery(Message):
    """Which files the agent has."""

    digests: list[Digest] = Field(..., min_length=1, max_length=MAX_FILES)


class BlobState(Message):
    """How much of a file the agent has.

    Attributes:
        received: bytes that are there; the next chunk begins at this offset.
        complete: all are there, and their hash is right.
    """

    digest: Digest
    received: int = Field(..., ge=0)
    complete: bool


class BlobStates(Message):
    blobs: list[BlobState]


class JobRequest(Message):
    """Body of the request that submits a job."""

    job: Job


State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
FailureCode = Literal[
    "input", "gate", "crashed", "timeout", "memory", "missing_files", "disk_full", "defect"
]


class JobFailure(Message):
    """Why a job failed, with no path of the agent's machine.

    Attributes:
        code: `input`: the models or settings; `gate`: pictures that are not finite; `crashed`,
            `timeout`, `memory`: the process that measured ended so; `missing_files`: evicted since
            the job was taken; `disk_full`; `defect`: of the agent, whose log has more.
    """

    code: FailureCode
    message: Words


class JobStatus(Message):
    """Where a job is.

    Attributes:
        position: jobs before it; 0 unless it is queued.
        failure: of state `failed`; result: of state `done`.
    """

    id: JobId
    state: State
    position: int = 0
    failure: JobFailure | None = None
    result: Result | None = None


class AgentErrorDetail(Message):
    """As `edgekd.serve.problems` writes it.

    Attributes:
        code: `invalid_api_key`, `unsupported_protocol`, `missing_files`, `queue_full`,
            `too_many_requests`, `file_too_large`, `store_full`, `disk_full`, `wrong_offset`,
            `wrong_size`, `hash_mismatch`, `job_differs`, `not_found`, `invalid_value` …
        missing: digests that must be uploaded first, of `missing_files`.
        received: bytes that are there, of `wrong_offset`.
    """

    message: Words
    type: str
    param: str | None = None
    code: str
    missing: list[Digest] | None = None
    received: int | None = None


class AgentErrorBody(Message):
    """The body of every answer that is no success."""

    error: AgentErrorDetail
