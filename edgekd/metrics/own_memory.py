"""Peak memory above what Python and the libraries hold before anything is loaded."""

from edgekd.metrics.metric import Descriptor, Metric, plain

METRIC = Metric(
    Descriptor(
        name="peak_above_baseline_bytes",
        label="own memory",
        title="Peak memory without Python and libraries",
        direction="lower",
        unit="B",
        format="bytes",
        source="memory",
        places=("card",),
        rank=40,
    ),
    lambda found: plain(found.memory.above_baseline_bytes if found.memory else None),
)
