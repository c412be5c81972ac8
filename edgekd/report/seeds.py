"""Means over reports of one suite whose students were trained with other seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from edgekd.errors import InputError
from edgekd.metrics.metric import Descriptor
from edgekd.report import format as fmt
from edgekd.report.compare import Match, Named, compared, match_rows, metric_names, same_noise
from edgekd.report.comparison import Compared
from edgekd.report.part import ReportPart
from edgekd.report.schema import Report


class SeedFigure(ReportPart):
    """One metric of one row.

    Attributes:
        values: by report; null: none.
        mean, deviation: over the values there are; `deviation` is the sample's (n - 1), null for
            fewer than two.
    """

    metric: str
    values: list[float | None]
    mean: float
    deviation: float | None


class SeedRow(ReportPart):
    """One row over the reports."""

    name: str
    role: str
    figures: list[SeedFigure]


class Seeds(ReportPart):
    """Everything."""

    reports: list[Compared]
    rows: list[SeedRow]


def over_seeds(named: Sequence[Named]) -> Seeds:
    """Means and standard deviations of every row over reports of one suite.

    Raises:
        InputError: one report alone, or reports of suites that differ.
    """
    if len(named) < 2:
        raise InputError("`--seeds` must have two reports or more", str(len(named)))
    first = named[0].report
    for one in named[1:]:
        if one.report.suite != first.suite or not same_noise(first, one.report):
            raise InputError(
                "reports with `--seeds` must be of one suite, with its captions and noise",
                f"`{one.path}`, which differs from `{named[0].path}`",
            )
        for metric, other in _measured_otherwise(first, one.report):
            raise InputError(
                f"reports with `--seeds` must measure `{metric.name}` alike",
                f"{metric.full_name}, {other.full_name}",
            )
    reports = [one.report for one in named]
    names = metric_names(reports)
    rows = [_row(match, names) for match in match_rows(reports)]
    return Seeds(reports=[compared(one) for one in named], rows=rows)


def _measured_otherwise(a: Report, b: Report) -> list[tuple[Descriptor, Descriptor]]:
    """Metrics of one name with other features or sample counts."""
    known = {metric.name: metric for metric in a.descriptors}
    pairs = [(known[metric.name], metric) for metric in b.descriptors if metric.name in known]
    return [(ours, theirs) for ours, theirs in pairs if ours.full_name != theirs.full_name]


def _row(match: Match, names: Sequence[str]) -> SeedRow:
    figures = []
    for name in names:
        values = [None if row is None else row.value(name) for row in match.rows]
        known = [value for value in values if value is not None]
        if known:
            deviation = statistics.stdev(known) if len(known) > 1 else None
            mean = statistics.fmean(known)
            figures.append(SeedFigure(metric=name, values=values, mean=mean, deviation=deviation))
    return SeedRow(name=match.row.name, role=match.row.role, figures=figures)


def seed_lines(found: Seeds, metrics: Mapping[str, Descriptor]) -> list[str]:
    """A Markdown table: a line for each row, `mean ± deviation` of each metric that rows have.

    A row that lacks a metric in some report says in how many it has it.

    Args:
        metrics: descriptors by name.
    """
    names = [name for name in metrics if any(_figure(row, name) for row in found.rows)]
    head = ["", *(fmt.head(metrics[name]) for name in names)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in found.rows:
        cells = [_cell(metrics[name], _figure(row, name)) for name in names]
        lines.append(f"| {' | '.join([row.name, *cells])} |")
    count = len(found.reports)
    return [*lines, "", f"mean ± standard deviation over {count} reports"]


def _figure(row: SeedRow, name: str) -> SeedFigure | None:
    return next((one for one in row.figures if one.metric == name), None)


def _cell(metric: Descriptor, found: SeedFigure | None) -> str:
    if found is None:
        return fmt.MISSING
    # Sums that end in other bits are no spread.
    spread = found.deviation if (found.deviation or 0) > 1e-9 * abs(found.mean) else None
    text = fmt.value_text(metric, found.mean, spread if metric.format == "number" else None)
    if spread and metric.format != "number":
        text += f" ± {fmt.value_text(metric, spread)}"
    known = sum(value is not None for value in found.values)
    return text if known == len(found.values) else f"{text} ({known} of {len(found.values)})"
