"""Measure a matrix of subjects and write the report.

Everything that takes time is kept in `out/cache` under the hash of what it
depends on, so a killed or repeated benchmark measures only what is missing.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd import __version__
from edgekd.artifacts import (
    ARTIFACT_FILE,
    BenchmarkReport,
    PreparedData,
    finish,
    finished,
    write_json,
)
from edgekd.benchmark.cache import Cache
from edgekd.benchmark.cost import memory_of_all, speed_of_all
from edgekd.benchmark.curves import load_curve
from edgekd.benchmark.drawing import Bench, draw_missing, judged, judged_real
from edgekd.benchmark.headline import headline
from edgekd.benchmark.projection import project
from edgekd.benchmark.prompts import select_prompts
from edgekd.benchmark.quality import (
    Floats,
    Judge,
    MetricsJudge,
    Pictures,
    agreement,
    check_finite,
    measure_quality,
    metric_names,
)
from edgekd.benchmark.subjects import TORCH, Subject, check_subjects, facts
from edgekd.benchmark.suite import Suite
from edgekd.benchmark.workers import pool_size
from edgekd.measure.environment import environment
from edgekd.processes.pool import Pool
from edgekd.progress import Progress
from edgekd.report.pictures import Gallery
from edgekd.report.render import render

REPORT_SCHEMA = 1
REAL_ROW = "real images"


@dataclass(frozen=True)
class Measured:
    """All that was measured, before it is put into rows."""

    pictures: dict[str, Pictures]
    real: Pictures
    reference: Floats
    speed: dict[str, Any] | None
    memory: dict[str, Any] | None


def benchmark(
    suite: Suite,
    subjects: list[Subject],
    data: PreparedData,
    out: Path,
    progress: Progress,
    key: str,
    curves: dict[str, Path],
    deploy: tuple[str, str] | None = None,
    judge: Judge | None = None,
) -> BenchmarkReport:
    """Measure all subjects on the validation prompts and write `report.{json,html,md}`.

    Args:
        subjects: rows of the matrix, at least one teacher.
        out: report folder; keeps a cache of measurements between runs.
        key: content key of the report; an unchanged finished report is returned as it is.
        curves: name -> `metrics.jsonl` of a training run, plotted in the report.
        deploy: runtime and precision of the headline's student row.
        judge: features and scores; default: the shipped scorers.

    Raises:
        InputError: subjects or data that cannot be compared.
        GateError: a picture, a feature or a metric that is not finite.
    """
    report = BenchmarkReport(out, key)
    if finished(out, key) is not None:
        return report
    check_subjects(subjects)
    training = {name: load_curve(path) for name, path in curves.items()}
    out.mkdir(parents=True, exist_ok=True)
    (out / ARTIFACT_FILE).unlink(missing_ok=True)  # what is here is not whole any more
    bench = Bench(
        suite=suite,
        subjects=tuple(subjects),
        keys={subject.name: subject.key() for subject in subjects},
        data=data,
        prompts=select_prompts(data, suite.quality.samples, suite.quality.seed),
        cache=Cache(out / "cache"),
    )
    judge = judge or MetricsJudge()
    measured = measure(bench, judge, progress)
    rows = make_rows(bench, judge, measured)
    content = make_report(bench, judge, measured, rows, training, deploy)
    check_finite("headline", content["metrics"])
    write_json(report.json_path, content)
    render(content, out, make_gallery(bench, measured))
    bench.cache.prune()
    finish(out, key, suite=suite.name)
    return report


def measure(bench: Bench, judge: Judge, progress: Progress) -> Measured:
    """Draw, judge, time and weigh all subjects that run here."""
    count, threads = pool_size(
        bench.suite.quality.workers,
        len(bench.batches()) * len(bench.runnable),
        bench.largest_bytes,
    )
    with Pool("draw and time", count, threads) as pool:
        draw_missing(bench, pool, progress)
        speed = speed_of_all(bench, pool, progress)
    memory = memory_of_all(bench, progress)
    progress.info("comparing pictures with real images, captions and the teacher's")
    real, reference = judged_real(bench, judge)
    pictures = {subject.name: judged(bench, judge, subject) for subject in bench.runnable}
    return Measured(pictures, real, reference, speed, memory)


def make_rows(bench: Bench, judge: Judge, measured: Measured) -> list[dict[str, Any]]:
    """One row per subject, in the given order.

    Raises:
        GateError: a metric that is not finite.
    """
    rows = []
    for subject in bench.subjects:
        row = {**facts(subject), "quality": None, "speed": None, "memory": None}
        pictures = measured.pictures.get(subject.name)
        if pictures is not None:
            row["quality"] = subject_quality(bench, judge, measured, subject)
            row["speed"] = measured.speed and measured.speed["subjects"].get(subject.name)
            row["memory"] = measured.memory and measured.memory.get(subject.name)
            check_finite(subject.name, row["quality"])
        rows.append(row)
    return rows


def subject_quality(
    bench: Bench, judge: Judge, measured: Measured, subject: Subject
) -> dict[str, Any]:
    """Quality of one row, alone and against the rows it should agree with."""
    pictures = measured.pictures[subject.name]
    quality = measure_quality(judge, pictures, measured.reference, bench.suite.quality)
    trained = subject.role == "student" and subject.runtime == TORCH
    others = {
        "to_teacher": _torch_row(bench, "teacher"),
        "to_student": _torch_row(bench, "student") if trained else None,
        "to_torch": _original(bench, subject),
    }
    for name, other in others.items():
        if other is None or other.name == subject.name:
            quality[name] = None
        else:
            figures = agreement(pictures, measured.pictures[other.name])
            quality[name] = {"row": other.name, **figures}
    return quality


def _torch_row(bench: Bench, role: str) -> Subject | None:
    """The row of a role that others are compared with: torch where there is one."""
    of_role = [subject for subject in bench.runnable if subject.role == role]
    return min(of_role, key=lambda subject: subject.runtime != TORCH, default=None)


def _original(bench: Bench, subject: Subject) -> Subject | None:
    """The torch row of the folder that an exported subject was made from."""
    if subject.runtime == TORCH or subject.source is None:
        return None
    for other in bench.runnable:
        if other.runtime == TORCH and other.path == subject.source:
            return other
    return None


def make_report(
    bench: Bench,
    judge: Judge,
    measured: Measured,
    rows: list[dict[str, Any]],
    curves: dict[str, Any],
    deploy: tuple[str, str] | None,
) -> dict[str, Any]:
    """Everything that `report.json` holds."""
    suite, prompts = bench.suite, bench.prompts
    real = measure_quality(judge, measured.real, measured.reference, suite.quality)
    check_finite(REAL_ROW, real)
    created = datetime.datetime.now(datetime.timezone.utc)
    sets = {"real": measured.real.features} | {
        name: pictures.features for name, pictures in measured.pictures.items()
    }
    summary = headline(rows, deploy)
    shown = {name: sets[name] for name in ("real", *summary["rows"].values()) if name in sets}
    return {
        "schema": REPORT_SCHEMA,
        "edgekd": __version__,
        "created": created.isoformat(timespec="seconds"),
        "suite": suite.model_dump(),
        "environment": environment(),
        "load_average_before_timing": measured.speed and measured.speed["load_average"],
        "data": {
            "key": bench.data.key,
            "resolution": bench.data.resolution,
            "validation": bench.data.validation,
            "prompts": len(prompts),
            "prompts_by_holdout": {
                kind: prompts.holdouts.count(kind) for kind in sorted(set(prompts.holdouts))
            },
            "reference": prompts.reference_count,
        },
        "metric_names": metric_names(judge, len(prompts), prompts.reference_count, suite.quality),
        "metrics": summary,
        "real": real,
        "rows": rows,
        "prompts": list(prompts.captions),
        "curves": curves,
        "projection": project(shown, measured.reference, suite.quality.seed),
    }


def make_gallery(bench: Bench, measured: Measured) -> Gallery:
    """Pictures from the same noise, side by side, with the real image of each prompt."""
    indices = bench.prompts.spread(bench.suite.pictures)
    rows = {REAL_ROW: measured.real} | measured.pictures
    return Gallery(
        captions=[bench.prompts.captions[index] for index in indices],
        holdouts=[bench.prompts.holdouts[index] for index in indices],
        rows={name: [pictures.images[i] for i in indices] for name, pictures in rows.items()},
    )
