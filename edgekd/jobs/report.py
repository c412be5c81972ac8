"""`edgekd report`: one report's headline, or several against each other, and rules on both; or the
means of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekd.errors import InputError
from edgekd.metrics.metric import Descriptor
from edgekd.report.compare import Named, compare, open_reports
from edgekd.report.compare_view import text_lines, write_page
from edgekd.report.comparison import CheckedRule, Comparison
from edgekd.report.headline import headline_text
from edgekd.report.rules import check_rules, parse_rule
from edgekd.report.seeds import Seeds, over_seeds, seed_lines


@dataclass(frozen=True)
class ReportAnswer:
    """What the verb prints: `content` for machines, `lines` for people; and the checked rules."""

    content: Comparison | Seeds
    lines: list[str]
    gates: tuple[CheckedRule, ...] = ()


def compare_run(paths: Sequence[Path], fail_on: Sequence[str], out: Path | None) -> ReportAnswer:
    """Read the reports, compare them, check the rules, and write the page.

    Raises:
        InputError: a path without a report, a rule that cannot be read, reports without a row in
            common.
    """
    rules = [parse_rule(text) for text in fail_on]
    if out is not None and len(paths) < 2:
        raise InputError(
            "`--out` writes a comparison, which needs two reports", "one", "It has its own page."
        )
    if out is not None and out.suffix != ".html":
        raise InputError("`--out` must end in .html", f"`{out}`")
    named = open_reports(paths)
    comparison = compare(named).model_copy(update={"gates": check_rules(rules, named)})
    if len(named) > 1 and not any(None not in row.names for row in comparison.rows):
        raise InputError(
            "reports that are compared must have a row in common (model, role, runtime, precision "
            "and how it draws)",
            "none",
        )
    metrics = _descriptors(named)
    if out is not None:
        write_page(comparison, metrics, out)
    lines = _headline_lines(named[0]) if len(named) == 1 else text_lines(comparison, metrics)
    for gate in comparison.gates:
        value = "no value" if gate.value is None else f"{gate.value:.4g}"
        lines.append(f"{gate.rule}: {value}, {'failed' if gate.failed else 'passed'}")
    if out is not None:
        lines.append(f"page: {out}")
    return ReportAnswer(comparison, lines, comparison.gates)


def seeds_run(paths: Sequence[Path]) -> ReportAnswer:
    """Read reports of one suite, trained with other seeds, and take the means.

    Raises:
        InputError: a path without a report, one alone, or reports of suites that differ.
    """
    named = open_reports(paths)
    found = over_seeds(named)
    return ReportAnswer(found, seed_lines(found, _descriptors(named)))


def _descriptors(named: Sequence[Named]) -> dict[str, Descriptor]:
    """By name, as the first report that has each describes it."""
    return {metric.name: metric for one in reversed(named) for metric in one.report.descriptors}


def _headline_lines(one: Named) -> list[str]:
    found = headline_text(one.report)
    partial = [f"Not everything was measured: {one.report.partial}"] if one.report.partial else []
    return [f"{found.title}.", *found.sentences, *partial]
