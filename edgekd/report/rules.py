"""`--fail-on 'score<0.95'`: a ratio that a report must not have.

With one report, the ratio is its headline's: student / teacher. With several, it is the value of
the last report's headline student over that of the first's.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgekd.errors import GateError, InputError
from edgekd.metrics.metric import Descriptor
from edgekd.report.compare import Named, metric_names, same_noise
from edgekd.report.comparison import CheckedRule
from edgekd.report.ratios import ratio
from edgekd.report.schema import Report
from edgekd.report.verdicts import OTHER_IMAGES, RowFigure

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FORM = re.compile(r"\s*([a-z][a-z0-9_]*)\s*(<=|>=|<|>)\s*([0-9.eE+-]+)\s*")


@dataclass(frozen=True)
class Rule:
    """When a report fails."""

    text: str
    metric: str
    compare: str
    bound: float

    def holds(self, value: float) -> bool:
        return _COMPARE[self.compare](value, self.bound)


def parse_rule(text: str) -> Rule:
    """`METRIC OP NUMBER`.

    Raises:
        InputError: anything else.
    """
    match = _FORM.fullmatch(text)
    try:
        bound = float(match[3]) if match else math.nan
    except ValueError:
        bound = math.nan
    if match is None or not math.isfinite(bound):
        raise InputError(
            "`--fail-on` must be METRIC, one of < <= > >=, and a number, as `score<0.95`",
            f"{text!r}",
        )
    return Rule(text.strip(), match[1], match[2], bound)


def check_rules(rules: Sequence[Rule], named: Sequence[Named]) -> tuple[CheckedRule, ...]:
    """Every rule with its value.

    Raises:
        InputError: a metric that no report has, or that the reports measure differently.
    """
    known = metric_names([one.report for one in named])
    gates = []
    for rule in rules:
        if rule.metric not in known:
            rule_text = f"`--fail-on` takes {', '.join(known)}"
            raise InputError(rule_text, f"`{rule.metric}`")
        value, of = _value(rule, named)
        failed = value is None or rule.holds(value)
        gates.append(CheckedRule(rule=rule.text, value=value, of=of, failed=failed))
    return tuple(gates)


def raise_failed(gates: Sequence[CheckedRule]) -> None:
    """Raise GateError naming all that failed."""
    failed = [one for one in gates if one.failed]
    if failed:
        found = [
            f"{one.rule!r}: {'no value' if one.value is None else f'{one.value:.4g}'} ({one.of})"
            for one in failed
        ]
        raise GateError("no rule of --fail-on may hold, and each needs a value", "; ".join(found))


def _value(rule: Rule, named: Sequence[Named]) -> tuple[float | None, str]:
    """The ratio, and of what it is."""
    first, last = named[0].report, named[-1].report
    if len(named) == 1:
        rows = first.metrics.rows
        ratios = first.metrics.ratios or {}
        return ratios.get(rule.metric), f"{rows.student or 'no student'} / {rows.teacher}"
    names = [_full_name(report, rule.metric) for report in (first, last)]
    if names[0] != names[1]:
        raise InputError(
            f"`{rule.metric}` must be measured alike in both reports", f"{names[0]}, {names[1]}"
        )
    if not same_noise(first, last) and any(
        _of_sets(report, rule.metric) for report in (first, last)
    ):
        raise InputError(f"`{rule.metric}` must be measured alike in both reports", OTHER_IMAGES)
    values = [(report.metrics.student or {}).get(rule.metric) for report in (first, last)]
    students = [report.metrics.rows.student or "no student" for report in (last, first)]
    of = f"{students[0]} in {named[-1].path} / {students[1]} in {named[0].path}"
    return ratio(values[1], values[0]), of


def _of_sets(report: Report, name: str) -> bool:
    metric = next(one for one in report.descriptors if one.name == name)
    rows = (row for row in report.rows if row.name == report.metrics.rows.student)
    return any(RowFigure(metric, row).of_sets for row in rows)


def _full_name(report: Report, name: str) -> str:
    found: Descriptor | None = next((one for one in report.descriptors if one.name == name), None)
    return "not measured" if found is None else found.full_name or found.name
