"""Parameters of all models of a row."""

from edgekd.metrics.metric import Descriptor, Metric, plain

METRIC = Metric(
    Descriptor(
        name="parameters",
        label="parameters",
        title="Parameters",
        direction="lower",
        format="count",
        source="files",
        rank=10,
    ),
    lambda found: plain(found.parameters),
)
