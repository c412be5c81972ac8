"""Bytes of a row's folder, as it is stored."""

from edgekd.metrics.metric import Descriptor, Metric, plain

METRIC = Metric(
    Descriptor(
        name="size_bytes",
        label="size",
        title="Size on disk",
        direction="lower",
        unit="B",
        format="bytes",
        source="files",
        places=("column", "card"),
        rank=50,
        per_stored_type=True,
    ),
    lambda found: plain(found.size_bytes),
)
