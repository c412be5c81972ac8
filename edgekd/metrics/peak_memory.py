"""Peak resident memory of a fresh process that loads a row and draws one picture."""

from edgekd.metrics.metric import Descriptor, Metric, plain

METRIC = Metric(
    Descriptor(
        name="peak_bytes",
        label="peak memory",
        title="Peak memory",
        direction="lower",
        unit="B",
        format="bytes",
        source="memory",
        rank=30,
    ),
    lambda found: plain(found.memory.peak_bytes if found.memory else None),
)
