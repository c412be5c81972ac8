"""What `edgekd search` tells people."""

from __future__ import annotations

from pathlib import Path

from edgekd.jobs.search import MeasuredTarget
from edgekd.jobs.search_fronts import Fronts
from edgekd.jobs.search_plan import SEARCH
from edgekd.search.latency import PredictorReport
from edgekd.search.result import PLOT_FILE, SearchResult

_HEAD = ("", "latency", "speedup", "quality", "student")


def lines(found: SearchResult | Fronts | MeasuredTarget, run: Path) -> list[str]:
    """The front with its choice, of each class of devices; or what was measured."""
    if isinstance(found, MeasuredTarget):
        return _measured_lines(found)
    if isinstance(found, SearchResult):
        return _front_lines(found, run / SEARCH)
    return [
        line
        for name, front in found.fronts.items()
        for line in (f"[{name}]", *_front_lines(front, found.folders[name]))
    ]


def _front_lines(found: SearchResult, folder: Path) -> list[str]:
    """The front, fastest first; `>` marks the choice and `*` what was measured whole."""
    rows = [_HEAD]
    for index, one in enumerate(found.front):
        marks = (">" if index == found.chosen.index else " ") + ("*" if one.measured else " ")
        latency, speedup = f"{one.latency_ms:.4g} ms", f"{one.speedup:.1f}x"
        rows.append((marks, latency, speedup, f"{one.quality:.3f}", f"{one.label} ({one.file})"))
    told = [
        f"{mark:<3}{latency:>10}{speedup:>9}{quality:>9}  {student}"
        for mark, latency, speedup, quality, student in rows
    ]
    return [
        *told,
        f"chosen: {found.chosen.reason}",
        f"{found.searched_on.sentence}; teacher: {found.teacher.latency_ms:.4g} ms a picture",
        predictor_line(found.predictor),
        *found.notes,
        f"student:  {folder / found.student.file}",
        f"plot:     {folder / PLOT_FILE}",
    ]


def _measured_lines(found: MeasuredTarget) -> list[str]:
    told = [f"{name}: {predictor_line(one)}" for name, one in found.predictors.items()]
    warnings = [f"  {text}" for one in found.predictors.values() for text in one.warnings]
    return [
        *told,
        *warnings,
        f"{found.searched_on.sentence}; teacher: {found.teacher_latency_ms:.4g} ms a picture",
        f"measurements: {found.measurements}",
    ]


def predictor_line(report: PredictorReport) -> str:
    """How well latencies are told."""
    said = f"latency from {report.measurements} measured graphs"
    if not report.held_out or report.median_error is None or report.within_10 is None:
        return f"{said}, error unknown"
    return (
        f"{said}; on {report.held_out} unseen U-Nets off by {report.median_error:.1%} (median), "
        f"{report.within_10:.0%} within 10 %, rank correlation {report.spearman:.3f}"
    )
