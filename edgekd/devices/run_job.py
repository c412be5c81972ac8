"""One job of an agent: its files laid out and looked at, then measured as on the host's machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgekd.devices.jobs import Outcome
from edgekd.devices.local import LocalDevice
from edgekd.devices.onnx_files import check_locations, check_xml
from edgekd.devices.orders import CheckJob, ExportJob, Files, GraphJob, Job
from edgekd.devices.plain_text import without_paths
from edgekd.devices.process import Bounds, EndedError
from edgekd.devices.protocol import ExportFolder, ExportOrder, GraphFolder, GraphOrder
from edgekd.devices.results import Result
from edgekd.devices.schema import DeviceLimits, FailureCode, JobFailure
from edgekd.devices.store import FullDiskError, MissingFileError, Store
from edgekd.errors import EdgekdError, GateError, InputError
from edgekd.serve.logs import log

_CODES: tuple[tuple[type[EdgekdError], FailureCode], ...] = (
    (MissingFileError, "missing_files"),
    (FullDiskError, "disk_full"),
    (InputError, "input"),
    (GateError, "gate"),
)

_CHECKS = {".onnx": check_locations, ".xml": check_xml}


def folders(job: Job) -> Iterator[Files]:
    """Every folder that a job is about."""
    if isinstance(job, ExportJob):
        yield from job.rows.values()
    elif isinstance(job, GraphJob):
        yield job.reference
        yield from job.graphs.values()


def digests(job: Job) -> set[str]:
    """Of all files of a job."""
    return {digest for folder in folders(job) for digest in folder.files.values()}


def threads(job: Job) -> int:
    """The most that any part of a job runs on."""
    if isinstance(job, CheckJob):
        return job.threads
    points = job.settings.points if isinstance(job, ExportJob) else ()
    return max(job.settings.threads, *(point.threads for point in points), 1)


@dataclass(frozen=True)
class JobRunner:
    """Does jobs, one at a time; see `edgekd.devices.jobs.Work`."""

    store: Store
    limits: DeviceLimits
    name: str

    def __call__(self, number: str, job: Job, stop: threading.Event) -> Outcome:
        try:
            return self._run(number, job, stop)
        except EndedError as error:
            if error.reason == "cancelled":
                return None
            return JobFailure(code=error.reason, message=without_paths(str(error)))
        except EdgekdError as error:
            code = next((code for kind, code in _CODES if isinstance(error, kind)), "defect")
            return JobFailure(code=code, message=without_paths(str(error)))
        except Exception:
            log.exception("defect", extra={"fields": {"job": number}})
            return JobFailure(code="defect", message="the agent has a defect; its log has more")

    def _run(self, number: str, job: Job, stop: threading.Event) -> Result:
        with self.store.folder_of(number) as folder:
            bounds = Bounds(self.limits.memory_bytes, self.limits.job_s, folder, stop)
            device = LocalDevice(self.name, bounds)
            if isinstance(job, CheckJob):
                return device.check(job)
            self.store.check_room(digest for row in folders(job) for digest in row.files.values())
            if isinstance(job, GraphJob):
                return device.measure_graphs(self._graphs(job, folder))
            return device.measure_exports(self._exports(job, folder))

    def _exports(self, job: ExportJob, folder: Path) -> ExportOrder:
        rows = {
            name: ExportFolder(self._lay_out(row, folder, str(index)), row.drawing)
            for index, (name, row) in enumerate(job.rows.items())
        }
        return ExportOrder(rows, job.settings)

    def _graphs(self, job: GraphJob, folder: Path) -> GraphOrder:
        graphs = {}
        for index, (name, graph) in enumerate(job.graphs.items()):
            place = self._lay_out(graph, folder, str(index))
            graphs[name] = GraphFolder(place, graph.component, graph.whole)
        return GraphOrder(graphs, self._lay_out(job.reference, folder, "reference"), job.settings)

    def _lay_out(self, files: Files, folder: Path, name: str) -> Path:
        """Make one of a job's folders; its path is relative, as measuring processes see it.

        Raises:
            InputError: a model that is none, or one that names files elsewhere.
        """
        self.store.lay_out(files.files, folder / name)
        for path in files.files:
            check = _CHECKS.get(PurePosixPath(path.lower()).suffix)
            if check is not None:
                check(folder.joinpath(name, *path.split("/")))
        return Path(name)
