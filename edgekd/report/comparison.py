"""What `edgekd report A B …` finds, as `--json` prints it."""

from __future__ import annotations

from typing import Literal

from edgekd.report.part import ReportPart

Verdict = Literal["worse", "better", "not comparable", "no value", "same within noise", "same"]


class Compared(ReportPart):
    """One report of those that are compared."""

    path: str
    created: str
    edgekd: str
    suite: str
    cpu: str
    student: str | None


class Change(ReportPart):
    """One metric of one row over the reports, the last against the first.

    Attributes:
        names: full names by report, where they differ.
        values: by report; null: none.
        ratio: last / first.
        low, high: 95 % interval of `interval_of`.
        test: how the verdict was found, in words.
    """

    metric: str
    names: tuple[str, ...] = ()
    values: list[float | None]
    ratio: float | None = None
    interval_of: Literal["difference", "ratio"] | None = None
    low: float | None = None
    high: float | None = None
    verdict: Verdict
    test: str


class MatchedRow(ReportPart):
    """One row over the reports.

    Attributes:
        names: of the row in each report; null: it has no such row.
        states: `measured`, `not executed`, `failed`, `unmeasured` or `no such row`, by report.
    """

    model: str
    role: str
    runtime: str
    precision: str
    generation: str | None
    names: list[str | None]
    states: list[str]
    changes: list[Change]

    @property
    def title(self) -> str:
        return f"{self.model} {self.runtime} {self.precision}"


class CheckedRule(ReportPart):
    """A rule of `--fail-on`; `failed`: it holds, or its value is not there."""

    rule: str
    value: float | None
    of: str
    failed: bool


class Comparison(ReportPart):
    """Everything."""

    reports: list[Compared]
    paired: bool
    caveats: list[str]
    rows: list[MatchedRow]
    gates: tuple[CheckedRule, ...] = ()
