"""The headline in plain words: true of the figures, with what limits them in the same sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekd.metrics.metric import Descriptor
from edgekd.report import format as fmt
from edgekd.report.schema import Report, Row
from edgekd.report.statistics import intervals_apart, paired_difference

LATENCY = "latency_ms"
# Ratios nearer to 1 than this are called the same: below the noise of any of these figures.
SAME = 0.01


@dataclass(frozen=True)
class HeadlineText:
    """One sentence for everyone, and more for those who read on."""

    title: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class _Compared:
    """A metric's values of the headline's rows."""

    metric: Descriptor
    student: float
    teacher: float
    ratio: float

    @property
    def texts(self) -> tuple[str, str]:
        return fmt.value_text(self.metric, self.student), fmt.value_text(self.metric, self.teacher)

    @property
    def name(self) -> str:
        """The title inside a sentence: `Caption score` -> `caption score`, `FD to …` as it is."""
        title = self.metric.title
        return title if title[1:2].isupper() else title[:1].lower() + title[1:]


def headline_text(report: Report) -> HeadlineText:
    """What the headline's student is to its teacher."""
    names = report.metrics.rows
    if names.student is None:
        return HeadlineText(f"{names.teacher}: no student was measured", ())
    found = _compared(report)
    rows = {row.name: row for row in report.rows}
    student, teacher = rows[names.student], rows[names.teacher]
    drawn = [one for one in found if one.metric.source == "pictures"]
    scores = [one for one in drawn if one.metric.direction == "higher"]
    first = (scores or drawn)[:1]
    timed = [one for one in found if one.metric.name == LATENCY]
    clauses = [_latency_clause(one) + _unsure(report, student, teacher) for one in timed]
    clauses += [_quality_clause(one, student, teacher) for one in first]
    if not timed:
        clauses.append(_no_latency(report, student))
    title = _sentence([clause for clause in clauses if clause] or [f"{student.name} was measured"])
    rest = [one for one in drawn if one not in first]
    costs = [one for one in found if one.metric.source not in ("pictures", "latency")]
    said = [_who(report, student, teacher, timed)]
    said += [_sentence([_quality_clause(one, student, teacher)]) + "." for one in rest]
    said += [_costs_sentence(costs)] if costs else []
    return HeadlineText(title, tuple(said))


def _compared(report: Report) -> list[_Compared]:
    """Metrics of cards that have a ratio, in the order of cards."""
    metrics = report.metrics
    found = []
    for one in report.shown("card"):
        student = (metrics.student or {}).get(one.name)
        teacher, ratio = metrics.teacher.get(one.name), (metrics.ratios or {}).get(one.name)
        if student is not None and teacher is not None and ratio is not None:
            found.append(_Compared(one, student, teacher, ratio))
    return found


def _latency_clause(one: _Compared) -> str:
    if abs(one.ratio - 1) < SAME:
        return "draws a picture as fast as the teacher"
    if one.ratio < 1:
        return f"draws a picture {fmt.times(1 / one.ratio)} times as fast as the teacher"
    return f"needs {fmt.times(one.ratio)} times as long as the teacher for a picture"


def _unsure(report: Report, student: Row, teacher: Row) -> str:
    """Where other work held the cores: what the figure is then, see `edgekd.metrics.latency`."""
    if not _busy(student) and not _busy(teacher):
        return ""
    trust = "by processor time alone" if _one_thread(report) else "not to be trusted"
    return f" (timed while other work held the cores: {trust})"


def _busy(row: Row) -> bool:
    return "image" in row.speed and row.speed["image"].busy


def _one_thread(report: Report) -> bool:
    return report.suite.speed is not None and report.suite.speed.threads == 1


def _no_latency(report: Report, student: Row) -> str:
    """Without a ratio: the student's own time, or why there is none."""
    if report.metrics.evaluated is not None:
        return "was evaluated, not executed, so that nothing is known of its speed"
    own = student.value(LATENCY)
    if own is not None:
        text = f"draws a picture in {fmt.milliseconds(own)} on {student.device}"
        return f"{text}, where the teacher was not timed"
    return "" if report.suite.speed is None else f"has no time on {student.device}"


def _quality_clause(one: _Compared, student: Row, teacher: Row) -> str:
    """`keeps 92 % of the caption score (25.1 of 27.3)`, and whether noise explains it."""
    mine, theirs = one.texts
    noise = within_noise(one.metric, student, teacher)
    if one.metric.direction == "higher":
        verb = "keeps" if one.ratio < 1 + SAME else "reaches"
        text = f"{verb} {fmt.percent(one.ratio)} of the teacher's {one.name} ({mine} of {theirs}"
    else:
        share = "the same as" if abs(one.ratio - 1) < SAME else f"{fmt.times(one.ratio)} times"
        text = f"{one.name} is {share} the teacher's ({mine} against {theirs}, lower is better"
    return f"{text}{noise})"


def within_noise(metric: Descriptor, student: Row, teacher: Row) -> str:
    """What is said where chance may explain a difference of pictures; empty: it does not."""
    pair = [row.figures.get(metric.name) for row in (teacher, student)]
    first, second = (figure.samples if figure else None for figure in pair)
    if not first or not second or len(first) != len(second) or len(first) < 2:
        return _overlap(metric, student, teacher)
    found = paired_difference(first, second)
    if found.low <= 0 <= found.high:
        return f"; no difference beyond chance on {len(first)} pictures"
    return ""


def _overlap(metric: Descriptor, student: Row, teacher: Row) -> str:
    mine, theirs = (row.figures.get(metric.name) for row in (student, teacher))
    if mine is None or theirs is None:
        return ""
    apart = intervals_apart((mine.low, mine.high), (theirs.low, theirs.high))
    return "; their 95 % intervals overlap" if apart is False else ""


def _who(report: Report, student: Row, teacher: Row, timed: Sequence[_Compared]) -> str:
    """Which rows these are, and what the first figure rests on."""
    text = f"{student.name} against {teacher.name}"
    if timed and "image" in student.speed and "image" in teacher.speed:
        mine, theirs = timed[0].texts
        counts = [len(row.speed["image"].samples_ms) for row in (student, teacher)]
        alone = [_busy(row) and _one_thread(report) for row in (student, teacher)]
        kinds = ["least processor time" if one else "median" for one in alone]
        said = f"{kinds[0]}s" if kinds[0] == kinds[1] else " and ".join(kinds)
        text += f": {mine} a picture instead of {theirs} ({said} of {counts[0]} and {counts[1]}"
        text += f" pictures on {student.device})"
    elif report.metrics.evaluated is not None:
        text += f", evaluated, not executed: {report.metrics.evaluated}"
    if (student.runtime, student.precision) != (teacher.runtime, teacher.precision):
        text += (
            f"; the teacher in {teacher.runtime} {teacher.precision}, the student in "
            f"{student.runtime} {student.precision}, so that not all of it is the model's doing"
        )
    return f"{text}."


def _costs_sentence(costs: Sequence[_Compared]) -> str:
    parts = [
        f"{one.name} {fmt.percent(one.ratio)} of the teacher's ({one.texts[0]} of {one.texts[1]})"
        for one in costs
    ]
    return _sentence(parts) + "."


def _sentence(clauses: Sequence[str]) -> str:
    """Clauses joined, the first letter large."""
    *first, last = clauses
    text = f"{', '.join(first)} and {last}" if first else last
    return text[:1].upper() + text[1:]
