"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edgekd.serve.logs import event
from edgekd.serve.messages import Drawing
from edgekd.serve.recent import RecentTimes

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# From a tiny student's few steps to a large one's on a small processor.
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Figures:
    """All series, in a registry of their own.

    Attributes:
        recent: what pictures of each kind took lately.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.recent = RecentTimes()
        self._start_s: float | None = None
        self.requests = Counter(
            "edgekd_requests", "Answered requests.", ("route", "status"), registry=self.registry
        )
        self.errors = Counter(
            "edgekd_errors", "Answered errors by their code.", ("code",), registry=self.registry
        )
        self.pictures = Counter(
            "edgekd_pictures", "Finished pictures.", ("model",), registry=self.registry
        )
        self.stopped = Counter(
            "edgekd_pictures_stopped",
            "Pictures that nobody waited for any more.",
            registry=self.registry,
        )
        self.lost = Counter(
            "edgekd_workers_lost", "Worker processes that ended.", registry=self.registry
        )
        self.wait = self._seconds("edgekd_wait_seconds", "Time of a picture in the queue.")
        self.service = self._seconds("edgekd_service_seconds", "Time of a picture in a worker.")
        self.queue = Gauge(
            "edgekd_queue_length", "Pictures that wait for a worker.", registry=self.registry
        )
        self.running = Gauge(
            "edgekd_pictures_running", "Pictures that workers draw.", registry=self.registry
        )
        self.cold_start = Gauge(
            "edgekd_cold_start_seconds",
            "From the start of the process to listening, and in a worker for the first picture.",
            registry=self.registry,
        )

    def listening(self, start_s: float) -> None:
        """The server was ready so many seconds after its process began."""
        self._start_s = start_s

    def finished(self, drawing: Drawing, waited_s: float, service_s: float, drawn_s: float) -> None:
        """Count a picture: its time in the queue, in a worker, and of the drawing alone."""
        self.wait.labels(drawing.model).observe(waited_s)
        self.service.labels(drawing.model).observe(service_s)
        self.pictures.labels(drawing.model).inc()
        self.recent.note(drawing, drawn_s)
        if self._start_s is not None:
            cold, self._start_s = self._start_s + service_s, None
            self.cold_start.set(cold)
            event("first picture", model=drawing.model, cold_start_seconds=round(cold, 3))

    def _seconds(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, ("model",), buckets=_SECONDS, registry=self.registry)

    def count_request(self, route: str, status: int) -> None:
        self.requests.labels(route, str(status)).inc()

    def count_error(self, code: str) -> None:
        self.errors.labels(code).inc()

    def watch_memory(self, processes: Callable[[], dict[str, int]]) -> None:
        """Report the resident memory of processes (name -> pid) whenever figures are asked for."""
        self.registry.register(_Memory(processes))

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Memory(Collector):
    def __init__(self, processes: Callable[[], dict[str, int]]) -> None:
        self._processes = processes

    def collect(self) -> Iterable[Metric]:
        import psutil

        family = GaugeMetricFamily(
            "edgekd_memory_bytes", "Resident memory of a process.", labels=["process"]
        )
        for name, pid in self._processes().items():
            try:
                family.add_metric([name], psutil.Process(pid).memory_info().rss)
            except psutil.Error:  # it has ended just now
                continue
        yield family
