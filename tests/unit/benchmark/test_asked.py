import pytest

from edgekd.benchmark.asked import asked_metrics, asked_suite
from edgekd.benchmark.suite import ScalingSection, Suite
from edgekd.errors import InputError
from edgekd.metrics.metric import Descriptor, Metric, Source

SOURCES: dict[str, Source] = {
    "fd": "pictures",
    "latency_ms": "latency",
    "joules": "energy",
    "peak_bytes": "memory",
    "size_bytes": "files",
}


def metric(name: str, source: Source) -> Metric:
    descriptor = Descriptor(name=name, label=name, title=name, direction="lower", source=source)
    return Metric(descriptor, lambda _: None)


METRICS = [metric(name, source) for name, source in SOURCES.items()]


def left(*skip: str) -> Suite:
    suite = Suite(name="s", skip=list(skip), scaling=ScalingSection())
    return asked_suite(suite, asked_metrics(suite, METRICS))


def test_nothing_skipped_changes_nothing():
    assert left() == Suite(name="s", scaling=ScalingSection())


def test_what_no_metric_asks_for_is_not_measured():
    assert left("latency_ms").speed is not None  # energy is measured with it
    timeless = left("latency_ms", "joules")
    assert (timeless.speed, timeless.memory) == (None, True)
    assert timeless.scaling is not None  # of memory
    assert left("peak_bytes").memory is False
    assert left("latency_ms", "joules", "peak_bytes").scaling is None
    assert left("fd").quality.samples == left("fd").pictures == 8
    assert left("size_bytes").quality.samples == 64


def test_unknown_metrics_and_nothing_at_all_are_refused():
    with pytest.raises(InputError, match=r"among fd, latency_ms, .* but got 'fdd'"):
        left("fdd")
    with pytest.raises(InputError, match="must measure something"):
        left(*SOURCES)
