"""An agent as a `Device`: uploads what it lacks, submits the job, waits for its end."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

from edgekd.devices.link import Link, LostDeviceError, RefusedError, Request, ask_while_busy
from edgekd.devices.orders import CheckJob, ExportJob, ExportRow, Files, GraphFiles, GraphJob, Job
from edgekd.devices.protocol import ExportOrder, GraphFolder, GraphOrder
from edgekd.devices.results import CheckResult, ExportResult, GraphResults
from edgekd.devices.schema import (
    ENDED,
    MAX_WAIT_S,
    ClockReading,
    Description,
    DeviceLimits,
    Hello,
    JobFailure,
    JobRequest,
    JobStatus,
    common_protocol,
)
from edgekd.devices.upload import LocalFile, Uploads, folder_files
from edgekd.errors import EdgekdError, GateError, InputError
from edgekd.progress import Progress, Silent
from edgekd.schema import validate

Found = TypeVar("Found", ExportResult, GraphResults, CheckResult)
_TRIES = 3  # of a job that its agent lost, or whose files it evicted
_WAIT_S = 10.0  # that a request for a job's state is held back; a link that is cut shows by then
_GATES = ("gate", "crashed", "timeout", "memory")


class Alive(BaseModel):
    """What a server answers to a probe."""

    status: str


@dataclass(frozen=True)
class Tick:
    """The device's clock, and this machine's before and after it was read; nanoseconds."""

    before: int
    device: int
    after: int


class LostJobError(LostDeviceError):
    """The agent does not know the job any more: it was started anew, or the link was cut."""


class RemoteDevice:
    """See `edgekd.devices.protocol.Device`.

    Args:
        link: open as long as the device is used.
        progress: told of uploads and of waiting.
    """

    def __init__(self, link: Link, progress: Progress | None = None) -> None:
        self.link = link
        self._progress = link.progress = progress or Silent()
        self._description: Description | None = None

    def describe(self) -> Description:
        """The agent's hello, asked for once.

        Raises:
            InputError: it is out of reach, no agent, refuses the token, or speaks no protocol that
                this version of edgekd does.
        """
        if self._description is None:
            hello = Request("GET", "/v1/hello")
            # What other versions say besides is read once it is known that both speak one.
            try:
                theirs = self.link.ask(hello, Hello).protocols
            except RefusedError as error:
                if error.code != "not_found" and not self._lives():
                    raise
                raise self.link.stranger("another server") from None
            self.link.protocol = common_protocol(theirs, self.link.name)
            self._description = self.link.ask(hello, Description)
        return self._description

    def _lives(self) -> bool:
        """Whether it answers to a probe, as `edgekd serve` does without a token; no agent does."""
        try:
            self.link.ask(Request("GET", "/healthz"), Alive)
        except InputError:
            return False
        return True

    def tick(self) -> Tick:
        """Read the device's clock."""
        self.describe()
        before = time.monotonic_ns()
        found = self.link.ask(Request("GET", "/v1/clock"), ClockReading)
        return Tick(before, found.monotonic_ns, time.monotonic_ns())

    def measure_exports(self, order: ExportOrder) -> ExportResult:
        folders = {name: folder_files(row.folder) for name, row in order.rows.items()}
        rows = {
            name: ExportRow(files=_digests(folders[name]), drawing=row.drawing)
            for name, row in order.rows.items()
        }
        asked = {"rows": rows, "settings": order.settings}
        job = validate(ExportJob, asked, f"what device `{self.link.name}` is asked")
        found = self._run(job, _all(folders), ExportResult)
        self._check_whole(found.rows, order.rows)
        self._check_whole(range(len(found.points)), range(len(order.settings.points)))
        return found

    def measure_graphs(self, order: GraphOrder) -> GraphResults:
        folders = {name: folder_files(graph.folder) for name, graph in order.graphs.items()}
        reference = folder_files(order.reference)
        graphs = {name: _graph(one, folders[name]) for name, one in order.graphs.items()}
        job = GraphJob(
            graphs=graphs, reference=Files(files=_digests(reference)), settings=order.settings
        )
        result = self._run(job, [*_all(folders), *reference.values()], GraphResults)
        self._check_whole(result.graphs, order.graphs)
        return result

    def check(self, job: CheckJob) -> CheckResult:
        return self._run(job, [], CheckResult)

    def _check_whole(self, found: Iterable[object], asked: Iterable[object]) -> None:
        """What is neither measured nor failed would be waited for, or be missing without a word."""
        if set(found) != set(asked):
            rule = f"device `{self.link.name}` must answer for what it is asked, and for all of it"
            raise InputError(rule, "other names, or another number of points")

    def _run(self, job: Job, files: list[LocalFile], kind: type[Found]) -> Found:
        limits = self.describe().limits
        if limits is None:
            raise InputError(f"agent `{self.link.name}` must say its limits", "none")
        uploads = Uploads(self.link, limits, self._progress)
        lost: EdgekdError = LostJobError("the job must end", "no try")
        for _ in range(_TRIES):
            if files:
                uploads.send(files)
            try:
                result = self._once(job, limits).result
            except LostJobError as error:
                lost = error
                continue
            except RefusedError as error:
                if error.code != "missing_files":
                    raise
                lost = error
                continue
            if not isinstance(result, kind):
                found = f"one of `{result.kind}`" if result else "none"
                raise InputError(f"device `{self.link.name}` must give a result", found)
            return result
        raise lost

    def _once(self, job: Job, limits: DeviceLimits) -> JobStatus:
        """Submit a job and wait for its end; it does not go on where this process does not.

        Raises:
            LostJobError: the agent lost it; the same job may be submitted again.
        """
        path = f"/v1/jobs/{uuid.uuid4().hex}"
        seconds = limits.job_s * (limits.queue + 1)
        submit = Request("PUT", path, body=JobRequest(job=job))
        try:
            status = ask_while_busy(self.link, submit, JobStatus, "queue_full", seconds)
            if status.position:
                self._progress.info(f"device `{self.link.name}`: {status.position} jobs before")
            status = self._ended(path, status, time.monotonic() + 2 * seconds)
        except LostDeviceError:
            raise
        except BaseException:  # Ctrl-C too
            self.link.once(Request("DELETE", path))
            raise
        if status.failure is not None:
            raise self._failed(status.failure)
        return status

    def _ended(self, path: str, status: JobStatus, until: float) -> JobStatus:
        wait = min(_WAIT_S, MAX_WAIT_S)
        while status.state not in ENDED:
            if time.monotonic() > until:
                raise GateError(f"a job of device `{self.link.name}` must end", status.state)
            request = Request("GET", path, {"wait": int(wait)}, wait_s=wait)
            try:
                status = self.link.ask(request, JobStatus)
            except RefusedError as error:
                if error.code != "not_found":
                    raise
                raise self._lost("it knows the job no more") from None
        if status.state == "cancelled":
            raise self._lost("the job was cancelled there")
        return status

    def _lost(self, found: str) -> LostJobError:
        return LostJobError(f"device `{self.link.name}` must bring its job to an end", found)

    def _failed(self, failure: JobFailure) -> EdgekdError:
        if failure.code == "missing_files":
            return self._lost(failure.message)
        kind = GateError if failure.code in _GATES else InputError
        rule = f"device `{self.link.name}` must be able to measure what it is asked"
        fix = "The agent's log says more." if failure.code == "defect" else ""
        return kind(rule, f"{failure.code}: {failure.message}", fix)


def _graph(graph: GraphFolder, files: Mapping[str, LocalFile]) -> GraphFiles:
    return GraphFiles(files=_digests(files), component=graph.component, whole=graph.whole)


def _digests(files: Mapping[str, LocalFile]) -> dict[str, str]:
    return {name: file.digest for name, file in files.items()}


def _all(folders: Mapping[str, Mapping[str, LocalFile]]) -> list[LocalFile]:
    found: Iterable[Mapping[str, LocalFile]] = folders.values()
    return [file for files in found for file in files.values()]
