"""From the figures of `report.json` to the texts of the page: no figure is computed here."""

from __future__ import annotations

from dataclasses import dataclass

from edgekd.metrics.metric import Descriptor
from edgekd.report import format as fmt
from edgekd.report.headline import SAME, within_noise
from edgekd.report.schema import Agreement, Report, Row
from edgekd.report.table import (
    Cell,
    Table,
    names_first,
    row_kind,
    without_empty_columns,
)


@dataclass(frozen=True)
class RatioCard:
    """One headline ratio; `verdict` is `better`, `worse`, `same` or empty.

    Attributes:
        ratio: or the student's own cost, where the teacher has none on its device.
        teacher: empty then.
    """

    title: str
    ratio: str
    student: str
    teacher: str
    note: str
    verdict: str


def cards(report: Report) -> list[RatioCard]:
    """Headline ratios, student / teacher; figures the suite did not ask for are left out."""
    metrics = report.metrics
    if metrics.student is None or metrics.ratios is None:
        return []
    rows = {row.name: row for row in report.rows}
    pair = rows[str(metrics.rows.student)], rows[metrics.rows.teacher]
    apart = pair[0].device != pair[1].device
    made = []
    for one in report.shown("card"):
        teacher, student = metrics.teacher.get(one.name), metrics.student.get(one.name)
        ratio, note = metrics.ratios.get(one.name), f"{one.direction} is better"
        if student is None:
            continue
        mine = fmt.value_text(one, student)
        if teacher is not None and ratio is not None:
            theirs, verdict = fmt.value_text(one, teacher), _verdict(one, pair, ratio)
            made.append(RatioCard(one.title, fmt.factor(ratio), mine, theirs, note, verdict))
        elif apart and one.source in ("latency", "memory", "energy"):
            made.append(RatioCard(one.title, mine, f"on {pair[0].device}", "", note, ""))
    return made


def torch_latency(report: Report) -> str | None:
    """What torch needs here for both models, where the deployed runtime was not executed."""
    figures = report.metrics.torch_latency_ms
    if figures is None:
        return None
    return (
        f"The deployed runtime was not executed here. In torch, on this machine, a picture takes "
        f"the student {fmt.milliseconds(figures.student)} and the teacher "
        f"{fmt.milliseconds(figures.teacher)} ({fmt.factor(figures.ratio)}); this says "
        "nothing certain about the device."
    )


def absent_sentences(report: Report) -> list[tuple[str, str]]:
    """Names of rows that lack figures, and why."""
    said = []
    for row in report.rows:
        if row.not_executed:
            said.append((row.name, f"was not executed here: {row.not_executed}"))
        elif row.failed:
            said.append((row.name, f"failed: {row.failed}"))
        elif row.unmeasured:
            said.append((row.name, f"was not measured: {row.unmeasured}"))
        elif row.evaluated:
            said.append((row.name, f"has pictures, but neither times nor memory: {row.evaluated}"))
    return said


def _verdict(one: Descriptor, pair: tuple[Row, Row], ratio: float) -> str:
    """Empty where the headline says that chance, or other work on the cores, may explain it."""
    student, teacher = pair
    if abs(ratio - 1) < SAME:
        return "same"
    if one.source == "pictures" and within_noise(one, student, teacher):
        return ""
    if one.source == "latency" and any(row.busy for row in pair):
        return ""
    return "better" if (ratio < 1) == (one.direction == "lower") else "worse"


def agreement_table(report: Report) -> Table | None:
    """Pictures of the same caption and noise: each row against the teacher and other rows."""
    kept = [row for row in report.rows if row.to_teacher or row.to_student or row.to_torch]
    if not kept:
        return None
    found = {name for row in kept if row.to_teacher for name in row.to_teacher.differences}
    paired = [one for one in report.descriptors if one.name in found]
    head = ["row", "runtime", *(f"{one.label} - teacher's" for one in paired)]
    head += ["PSNR to teacher", "SSIM to teacher", "feature cosine to teacher"]
    head += [*(f"{one.label} - first student's" for one in paired), "PSNR to its torch row"]
    rows = [
        [
            *names_first(row),
            *(_difference(row.to_teacher, one) for one in paired),
            _psnr(row.to_teacher),
            _share(row.to_teacher.ssim if row.to_teacher else None),
            _share(row.to_teacher.feature_cosine if row.to_teacher else None),
            *(_difference(row.to_student, one) for one in paired),
            _psnr(row.to_torch),
        ]
        for row in kept
    ]
    kinds = [row_kind(row) for row in kept]
    caption = "Agreement of pictures from the same noise"
    return without_empty_columns(Table(head, rows, kinds, caption))


def _difference(other: Agreement | None, one: Descriptor) -> Cell:
    found = other.differences.get(one.name) if other else None
    if found is None:
        return Cell()
    text = f"{one.scale * found.value:+.2f} ± {one.scale * found.error:.2f}"
    return Cell(text, found.value)


def _psnr(other: Agreement | None) -> Cell:
    value = other.psnr_db if other else None
    return Cell(fmt.decibel(value), value)


def _share(value: float | None) -> Cell:
    return Cell() if value is None else Cell(f"{value:.3f}", value)


def busy_warning(report: Report) -> str | None:
    """A sentence where other work held the cores to the end while times were taken, else None."""
    marked = [row.name for row in report.rows if row.busy]
    if not marked:
        return None
    speed = report.suite.speed
    said = "their latencies and ratios are not to be trusted"
    if speed is not None and speed.threads == 1:
        said = "the least processor time of a picture stands for its latency there"
    return (
        f"Other work held the cores to the end while {', '.join(marked)} "
        f"{'was' if len(marked) == 1 else 'were'} timed: {said}. Measure again on a quiet machine."
    )
