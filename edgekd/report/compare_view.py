"""A comparison as tables: for the terminal and for a page."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from edgekd.files import write_text
from edgekd.metrics.metric import Descriptor
from edgekd.report import format as fmt
from edgekd.report.comparison import Change, Comparison, MatchedRow, Verdict
from edgekd.report.table import Cell, Table

_SIGNS = {"better": "+", "worse": "-", "not comparable": "?", "no value": "?"}
_SAME = ("same", "same within noise")


def compare_table(comparison: Comparison, metrics: dict[str, Descriptor]) -> Table:
    """A line for each metric of each row; values by report.

    Args:
        metrics: descriptors by name.
    """
    count = len(comparison.reports)
    head = ["metric", *(f"{number + 1}" for number in range(count)), "ratio"]
    rows, kinds, groups = [], [], []
    for row in comparison.rows:
        for one in row.changes:
            rows.append(_cells(one, metrics[one.metric]))
            kinds.append(one.verdict.replace(" ", "-"))
            groups.append(_group(row))
    caption = f"Report {count} against report 1" if count > 1 else "Figures"
    return Table([*head, "95 % interval", "verdict", "test"], rows, kinds, caption, groups)


def _group(row: MatchedRow) -> str:
    title = f"{row.title} ({row.role}), {row.generation}" if row.generation else row.title
    names = sorted({name for name in row.names if name} - {row.title})
    return f"{title}: {', '.join(names)}" if names else title


def _cells(one: Change, metric: Descriptor) -> list[Cell]:
    values = [Cell(fmt.value_text(metric, value), value) for value in one.values]
    interval = Cell()
    if one.low is not None and one.high is not None:
        scale = 1.0 if one.interval_of == "ratio" else metric.scale
        interval = Cell(f"{scale * one.low:.3g} to {scale * one.high:.3g} ({one.interval_of})")
    verdict = Cell(one.verdict, mark=one.verdict in ("no value", "not comparable"))
    ratio = Cell(fmt.factor(one.ratio), one.ratio)
    return [Cell(fmt.head(metric)), *values, ratio, interval, verdict, Cell(one.test)]


def lost_rows(comparison: Comparison) -> list[str]:
    """Rows that not every report has, and why."""
    return [
        f"{row.title}: {', '.join(f'{n + 1}: {state}' for n, state in enumerate(row.states))}"
        for row in comparison.rows
        if any(state != "measured" for state in row.states)
    ]


def counts(comparison: Comparison) -> str:
    """`1 worse, 2 better, 5 same within noise, …`."""
    verdicts = [one.verdict for row in comparison.rows for one in row.changes]
    found = [(verdicts.count(name), name) for name in get_args(Verdict)]
    return ", ".join(f"{n} {name}" for n, name in found if n) or "nothing to compare"


def text_lines(comparison: Comparison, metrics: dict[str, Descriptor]) -> list[str]:
    """For the terminal: a line for each metric that changed, `+` better, `-` worse, `?` not known;
    the others in one line."""
    lines = [
        f"[{number + 1}] {one.path}: {one.suite}, {one.created}, edgekd {one.edgekd}, {one.cpu}"
        for number, one in enumerate(comparison.reports)
    ]
    lines += [f"note: {one}" for one in comparison.caveats]
    table = compare_table(comparison, metrics)
    verdicts = [one.verdict for row in comparison.rows for one in row.changes]
    for group, indices in table.sections:
        lines += ["", group]
        changed = [index for index in indices if verdicts[index] not in _SAME]
        lines += _aligned(
            [[*map(str, table.rows[index])] for index in changed],
            [_SIGNS[verdicts[index]] for index in changed],
        )
        for verdict in _SAME:
            same = [table.rows[i][0].text for i in indices if verdicts[i] == verdict]
            lines += [f"  = {verdict}: {', '.join(same)}"] if same else []
    return [*lines, "", *lost_rows(comparison), counts(comparison)]


def _aligned(rows: list[list[str]], signs: list[str]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        f"  {sign} {'  '.join(map(str.ljust, cells, widths))}".rstrip()
        for sign, cells in zip(signs, rows, strict=True)
    ]


def write_page(comparison: Comparison, metrics: dict[str, Descriptor], out: Path) -> None:
    """A self-contained page in the report's looks."""
    from edgekd.report.render import template_environment

    context = {
        "comparison": comparison,
        "table": compare_table(comparison, metrics),
        "lost": lost_rows(comparison),
        "counts": counts(comparison),
    }
    template = template_environment().get_template("compare.html.j2")
    write_text(out, template.render(context))
