"""What verbs answer: the objects that `--json` prints."""

from __future__ import annotations

from pathlib import Path

from edgekd.metrics.metric import Figure
from edgekd.report.schema import Headline
from edgekd.schema import Section


class PrepareAnswer(Section):
    """Of `edgekd prepare`: what of `summary.json`, and the folders.

    Attributes:
        records: images that were found; `kept` of them by side of the split.
        skipped, unused: counts by reason.
        dialects: of tables, where they are not the usual one.
        resolution: side in pixels.
        buckets: training images by height and width.
    """

    records: int
    kept: dict[str, int]
    skipped: dict[str, int]
    unused: dict[str, int]
    dialects: dict[str, str]
    sources: list[str]
    resolution: int
    buckets: dict[str, int]
    prepared: Path
    cache: Path


class DistillAnswer(Section):
    """Of `edgekd distill`.

    Attributes:
        student, export, teacher: folders; `export` is the deployed precision.
        report: the page.
        bundles: folders of apps by kind.
        busy: rows that were timed while other work held the cores to the end.
    """

    student: Path
    export: Path
    report: Path
    teacher: Path
    bundles: dict[str, Path]
    metrics: Headline
    busy: list[str]


class BenchmarkAnswer(Section):
    """Of `edgekd benchmark` with a suite of models.

    Attributes:
        report: the page.
        rows: figures by row and metric.
        failed: rows that could not be made or measured, with why.
        busy: rows that were timed while other work held the cores to the end.
    """

    report: Path
    rows: dict[str, dict[str, Figure | None]]
    metrics: Headline
    failed: dict[str, str]
    busy: list[str]
