"""An agent's routes; see `edgekd.devices.schema`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.types import Scope

from edgekd import __version__
from edgekd.devices import problems
from edgekd.devices.describe import describe
from edgekd.devices.jobs import Jobs
from edgekd.devices.orders import GraphJob, Job
from edgekd.devices.run_job import digests, threads
from edgekd.devices.schema import (
    MAX_WAIT_S,
    PROTOCOL_HEADER,
    PROTOCOLS,
    AgentErrorBody,
    BlobQuery,
    BlobState,
    BlobStates,
    ClockReading,
    Description,
    DeviceLimits,
    JobRequest,
    JobStatus,
)
from edgekd.devices.store import Store
from edgekd.runtime.registry import runtimes
from edgekd.serve.errors import add_error_answers
from edgekd.serve.guard import Body, Slots
from edgekd.serve.problems import Problem

_MAX_JSON = 4 << 20  # a job of many rows with a thousand files each
_BODY_S = 120.0  # for a chunk, over a slow link
_UPLOADS = 8  # at the same time: so many chunks are in memory
_BYTES = "application/octet-stream"
_Responses = dict[int | str, dict[str, Any]]  # as FastAPI wants them
_ERRORS: _Responses = {"4XX": {"model": AgentErrorBody}, "5XX": {"model": AgentErrorBody}}
_CHUNK = {
    "requestBody": {
        "required": True,
        "content": {_BYTES: {"schema": {"type": "string", "format": "binary"}}},
    }
}

Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the whole file")]
JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="made by the host")]
Bytes = Annotated[int, Query(ge=0, lt=1 << 53)]


@dataclass(frozen=True)
class Agent:
    """What the routes use.

    Attributes:
        device_class: see `edgekd.devices.schema.Description`; None: told from the processor.
    """

    name: str
    device_class: str | None
    limits: DeviceLimits
    store: Store
    jobs: Jobs


def bodies(limits: DeviceLimits) -> Any:
    """What each request may send, for `edgekd.serve.guard.Guard`."""
    chunk = Body(_BYTES, limits.chunk_bytes, _BODY_S, Slots(_UPLOADS))
    message = Body(max_bytes=_MAX_JSON, seconds=_BODY_S)

    def body(scope: Scope) -> Body:
        uploads = scope["method"] == "PUT" and scope["path"].startswith("/v1/blobs/")
        return chunk if uploads else message

    return body


def check_protocol(
    version: Annotated[str | None, Header(alias=PROTOCOL_HEADER, description="1")] = None,
) -> None:
    """Refuse the requests of hosts that speak another version."""
    if version not in [str(one) for one in PROTOCOLS]:
        raise problems.unsupported_protocol()


def create_app(agent: Agent) -> FastAPI:
    """The API. Interactive pages of FastAPI's load scripts from elsewhere: they are left out."""
    app = FastAPI(
        title="edgekd agent",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # where to, the request's own `Host` would say
        responses=_ERRORS,
    )
    add_error_answers(app, lambda code: None)
    _add_hello(app, agent)
    _add_blobs(app, agent)
    _add_jobs(app, agent)
    return app


def _add_hello(app: FastAPI, agent: Agent) -> None:
    @app.get("/v1/hello")
    def hello() -> Description:
        """What this device is, and which versions of the protocol it speaks."""
        return describe(agent.name, agent.device_class, agent.limits)

    @app.get("/v1/clock", dependencies=[Depends(check_protocol)])
    async def clock() -> ClockReading:
        """The device's clock, to be compared with the host's."""
        return ClockReading(monotonic_ns=time.monotonic_ns())


def _add_blobs(app: FastAPI, agent: Agent) -> None:
    checked = [Depends(check_protocol)]

    @app.post("/v1/blobs", dependencies=checked)
    def query(body: BlobQuery) -> BlobStates:
        """How much of each file is here."""
        return BlobStates(blobs=agent.store.states(body.digests))

    @app.get("/v1/blobs/{digest}", dependencies=checked)
    def state(digest: Digest) -> BlobState:
        """How much of a file is here."""
        return agent.store.states([digest])[0]

    @app.put("/v1/blobs/{digest}", dependencies=checked, openapi_extra=_CHUNK)
    async def append(digest: Digest, offset: Bytes, size: Bytes, request: Request) -> BlobState:
        """Take the next chunk of a file of `size` bytes, from byte `offset` on; the last one is
        checked against the hash with all before it."""
        chunk = await request.body()
        return await run_in_threadpool(agent.store.append, digest, size, offset, chunk)


def _add_jobs(app: FastAPI, agent: Agent) -> None:
    checked, jobs = [Depends(check_protocol)], agent.jobs

    @app.put("/v1/jobs/{number}", status_code=202, dependencies=checked)
    async def submit(number: JobId, body: JobRequest) -> JobStatus:
        """Submit a job; one that was submitted already is not done twice."""
        content = body.model_dump_json()
        known = jobs.known(number, content)
        if known is not None:
            return known
        _check(body.job, agent.limits)
        jobs.check_room()
        needed = digests(body.job)
        missing = await run_in_threadpool(agent.store.pin, needed)
        if missing:
            raise problems.missing_files(missing)
        try:
            known = jobs.known(number, content)  # the same request may have come twice
            if known is None:
                jobs.check_room()
                return jobs.submit(number, body.job, content, lambda: agent.store.unpin(needed))
        except Problem:
            agent.store.unpin(needed)
            raise
        agent.store.unpin(needed)
        return known

    @app.get("/v1/jobs/{number}", dependencies=checked)
    async def status(
        number: JobId, wait: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0.0
    ) -> JobStatus:
        """Where a job is; with `wait`, as soon as that changes or so many seconds are over."""
        return await jobs.status(number, wait)

    @app.delete("/v1/jobs/{number}", dependencies=checked)
    async def cancel(number: JobId) -> JobStatus:
        """End a job; what it has measured is lost."""
        return await jobs.cancel(number)


def _check(job: Job, limits: DeviceLimits) -> None:
    """Refuse at once what cannot be done here."""
    if threads(job) > limits.threads:
        message = f"this agent lets models run on at most {limits.threads} threads"
        raise Problem(400, message, "invalid_value", "threads")
    if isinstance(job, GraphJob):
        runtime = runtimes().get(job.settings.runtime)
        if runtime is None or runtime.backend is None or not runtime.executes_here():
            message = "this agent does not run that runtime; its hello names those that it runs"
            raise Problem(400, message, "invalid_value", "runtime")
