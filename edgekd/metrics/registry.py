"""Metrics, found through the entry points `edgekd.metrics`."""

from __future__ import annotations

from edgekd.entries import entries
from edgekd.errors import InputError
from edgekd.metrics.metric import Metric

GROUP = "edgekd.metrics"


def load_metrics() -> tuple[Metric, ...]:
    """All installed metrics, in the order of their ranks.

    Raises:
        InputError: none, two of one name, or an entry point that leads to no metric of its name.
    """
    found = []
    for name, entry_point in entries(GROUP).items():
        metric = entry_point.load()
        if not isinstance(metric, Metric) or metric.descriptor.name != name:
            raise InputError(
                f"the entry point `{name}` of `{GROUP}` must be a Metric of that name",
                entry_point.value,
            )
        found.append(metric)
    if not found:
        raise InputError(
            "edgekd must be installed with its metrics",
            f"no entry point in the group `{GROUP}`",
            "Install it again.",
        )
    return tuple(sorted(found, key=lambda one: one.descriptor.rank))
