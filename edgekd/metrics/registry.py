"""Metrics, found through the entry points `edgekd.metrics`."""

from __future__ import annotations

from importlib.metadata import entry_points

from edgekd.errors import InputError
from edgekd.metrics.metric import Metric

GROUP = "edgekd.metrics"


def load_metrics() -> tuple[Metric, ...]:
    """All installed metrics, in the order of their ranks.

    Raises:
        InputError: none, two of one name, or an entry point that leads to no metric of its name.
    """
    found: dict[str, tuple[str, Metric]] = {}
    for entry_point in entry_points(group=GROUP):
        metric = entry_point.load()
        if not isinstance(metric, Metric) or metric.descriptor.name != entry_point.name:
            raise InputError(
                f"the entry point `{entry_point.name}` of `{GROUP}` must be a Metric of that name",
                entry_point.value,
            )
        other = found.setdefault(entry_point.name, (entry_point.value, metric))[0]
        if other != entry_point.value:
            raise InputError(
                f"names in the entry-point group `{GROUP}` must be unique",
                f"`{entry_point.name}` from {other} and from {entry_point.value}",
                "Uninstall one of the two packages.",
            )
    if not found:
        raise InputError(
            "edgekd must be installed with its metrics",
            f"no entry point in the group `{GROUP}`",
            "Install it again.",
        )
    metrics = [metric for _, metric in found.values()]
    return tuple(sorted(metrics, key=lambda one: (one.descriptor.rank, one.descriptor.name)))
