"""What of a suite is left when metrics are skipped."""

from __future__ import annotations

from collections.abc import Sequence

from edgekd.benchmark.suite import Suite
from edgekd.errors import InputError
from edgekd.metrics.metric import Metric, Source


def asked_metrics(suite: Suite, metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """All but those that the suite skips.

    Raises:
        InputError: it skips what is no metric, or all of them.
    """
    names = [metric.descriptor.name for metric in metrics]
    unknown = [name for name in suite.skip if name not in names]
    if unknown:
        raise InputError(f"metrics to skip must be among {', '.join(names)}", repr(unknown[0]))
    left = tuple(metric for metric in metrics if metric.descriptor.name not in suite.skip)
    if not left:
        raise InputError("a benchmark must measure something", "all metrics skipped")
    return left


def asked_suite(suite: Suite, metrics: Sequence[Metric]) -> Suite:
    """The suite without what no metric is left for.

    Without a metric of pictures, only those that the report shows are drawn.
    """
    sources = {metric.descriptor.source for metric in metrics}
    times: set[Source] = {"latency", "energy"}
    without = []
    if not sources & times:
        without.append("speed")
    if not sources & {*times, "memory"}:
        without.append("scaling")
    changes: dict[str, object] = dict.fromkeys(without)
    if "memory" not in sources:
        changes["memory"] = False
    if "pictures" not in sources:
        samples = min(suite.quality.samples, max(2, suite.pictures))
        changes["quality"] = suite.quality.model_copy(update={"samples": samples})
    return suite.model_copy(update=changes)
