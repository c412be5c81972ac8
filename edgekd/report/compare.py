"""Reports of several runs or machines against each other, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekd.errors import InputError
from edgekd.metrics.metric import Descriptor
from edgekd.report.comparison import Change, Compared, Comparison, MatchedRow
from edgekd.report.schema import Report, Row, read_report
from edgekd.report.table import absence
from edgekd.report.verdicts import change, sides

REPORT_FILE = "report.json"
_WHAT = "every argument must be a report.json, or a report's or a run's folder"


@dataclass(frozen=True)
class Named:
    """A report, and what the user called it."""

    path: str
    report: Report


@dataclass(frozen=True)
class Match:
    """One row over all reports; None: a report without it."""

    rows: tuple[Row | None, ...]

    @property
    def row(self) -> Row:
        """The first there is."""
        return next(row for row in self.rows if row is not None)


def find_report(path: Path) -> Path:
    """The `report.json` that an argument means.

    Raises:
        InputError: there is none.
    """
    for file in (path, path / REPORT_FILE, path / "report" / REPORT_FILE):
        if file.is_file():
            return file
    raise InputError(_WHAT, f"`{path}`", "`edgekd benchmark` makes one.")


def open_reports(paths: Sequence[Path]) -> list[Named]:
    """In the order given.

    Raises:
        InputError: one is missing, or of another version.
    """
    return [Named(str(path), read_report(find_report(path))) for path in paths]


def compare(named: Sequence[Named]) -> Comparison:
    """Every row and metric of two reports or more, the last against the first."""
    reports = [one.report for one in named]
    first, last = reports[0], reports[-1]
    paired = same_noise(first, last)
    return Comparison(
        reports=[compared(one) for one in named],
        paired=paired,
        caveats=caveats(first, last),
        rows=[_matched(match, reports, paired) for match in match_rows(reports)],
    )


def same_noise(first: Report, last: Report) -> bool:
    """Whether pictures of both can be paired: same captions, seed and side."""
    facts = [
        (one.prompts, one.suite.seed, one.data.resolution, one.data.key) for one in (first, last)
    ]
    return bool(first.prompts) and facts[0] == facts[1]


def match_rows(reports: Sequence[Report]) -> list[Match]:
    """Rows of one model, role, runtime, precision and generation; where several are, those of one
    target and device.

    A row that was not drawn has no generation and matches any: it is to be missed.
    """
    lines: list[list[Row | None]] = []
    for number, report in enumerate(reports):
        for row in report.rows:
            free = [line for line in lines if line[number] is None and _alike(_of(line), row)]
            found = max(free, key=lambda line: _likeness(_of(line), row), default=None)
            if found is None:
                found = [None] * len(reports)
                lines.append(found)
            found[number] = row
    return [Match(tuple(line)) for line in lines]


def _of(line: Sequence[Row | None]) -> Row:
    """The row that a line is of: a drawn one, if it has one."""
    rows = [row for row in line if row is not None]
    return next((row for row in rows if row.drawn), rows[0])


def _identity(row: Row) -> tuple[str, ...]:
    return (row.model, row.role, row.runtime, row.precision)


def _alike(one: Row, other: Row) -> bool:
    if _identity(one) != _identity(other):
        return False
    ways = (one.generation, other.generation)
    return None in ways or ways[0] == ways[1]


def _likeness(one: Row, other: Row) -> tuple[bool, bool, bool]:
    return (
        one.generation == other.generation,
        one.target == other.target,
        one.device == other.device,
    )


def _matched(match: Match, reports: Sequence[Report], paired: bool) -> MatchedRow:
    row = match.row
    generation = next((one.generation for one in match.rows if one and one.generation), None)
    return MatchedRow(
        model=row.model,
        role=row.role,
        runtime=row.runtime,
        precision=row.precision,
        generation=None if generation is None else str(generation),
        names=[None if one is None else one.name for one in match.rows],
        states=["no such row" if one is None else absence(one) or "measured" for one in match.rows],
        changes=_changes(match, reports, paired),
    )


def _changes(match: Match, reports: Sequence[Report], paired: bool) -> list[Change]:
    """Of every metric that the first or the last report has a value for."""
    made = []
    for name in metric_names(reports):
        found = sides(match.rows, [_metric(report, name) for report in reports])
        values = [None if one is None else one.row.value(name) for one in found]
        first, last = found[0], found[-1]
        if first is None or last is None or (values[0] is None and values[-1] is None):
            continue
        made.append(change(first, last, values, paired))
    return made


def metric_names(reports: Sequence[Report]) -> list[str]:
    """Of all reports, in the order of the first that has each."""
    return list(dict.fromkeys(one.name for report in reports for one in report.descriptors))


def _metric(report: Report, name: str) -> Descriptor | None:
    return next((one for one in report.descriptors if one.name == name), None)


def compared(one: Named) -> Compared:
    """Where a report is from."""
    report = one.report
    return Compared(
        path=one.path,
        created=report.created,
        edgekd=report.edgekd,
        suite=report.suite.name,
        cpu=report.environment.cpu.model,
        student=report.metrics.rows.student,
    )


def caveats(first: Report, last: Report) -> list[str]:
    """What else differs between the two, and so may explain a change."""
    pairs = {
        "processors": (first.environment.cpu.model, last.environment.cpu.model),
        "cores": (first.environment.cores, last.environment.cores),
        "timing": (first.suite.speed, last.suite.speed),
        "versions of edgekd": (first.edgekd, last.edgekd),
        "libraries": (first.environment.versions, last.environment.versions),
        "suites": (first.suite.name, last.suite.name),
        "seeds": (first.suite.seed, last.suite.seed),
    }
    said = [f"{what} differ: {_short(a, b)}" for what, (a, b) in pairs.items() if a != b]
    if not same_noise(first, last):
        said.append("prompts, noise or data differ: pictures are not paired")
    partial = dict.fromkeys(one.partial for one in (first, last) if one.partial)
    return [*said, *(f"not everything was measured: {why}" for why in partial)]


def _short(a: object, b: object) -> str:
    """Both values, of mappings and records only what differs."""
    one, other = _as_dict(a), _as_dict(b)
    if one is None or other is None:
        return f"{a}, {b}"
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return "; ".join(f"{name} {one.get(name, 'none')}, {other.get(name, 'none')}" for name in names)


def _as_dict(value: object) -> dict[str, object] | None:
    if isinstance(value, dict):
        return value
    return dict(value) if hasattr(value, "model_dump") else None  # type: ignore[call-overload]
