"""Measure a matrix of cases and write the report.

Everything that takes time is kept in `out/cache` under the hash of what it
depends on, so a killed or repeated benchmark measures only what is missing.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekd import __version__
from edgekd.artifacts import BenchmarkReport, PreparedData
from edgekd.benchmark.asked import asked_metrics, asked_suite
from edgekd.benchmark.cache import Cache
from edgekd.benchmark.cases import Case, check_cases
from edgekd.benchmark.cost import memory_of_all, speed_of_all
from edgekd.benchmark.curves import load_cost, load_curve
from edgekd.benchmark.device_cost import cost_on_devices
from edgekd.benchmark.device_rows import device_rows
from edgekd.benchmark.drawing import draw_missing, drawn_pictures, real_pictures
from edgekd.benchmark.extract import Extractors, Networks, StarterExtractors, open_networks
from edgekd.benchmark.failures import Failures
from edgekd.benchmark.headline import headline, headline_rows
from edgekd.benchmark.inner.stage import inner_features
from edgekd.benchmark.matrix import Matrix
from edgekd.benchmark.nearness import picture_nearness
from edgekd.benchmark.projection import picture_projections, shown_sets
from edgekd.benchmark.prompts import select_prompts
from edgekd.benchmark.rows import MatrixFigures, figures_of, make_rows
from edgekd.benchmark.scaling import scaling_of_all
from edgekd.benchmark.speed import SpeedResult
from edgekd.benchmark.start import cold_starts_of_all
from edgekd.benchmark.suite import Suite
from edgekd.benchmark.training_sheets import training_sheet
from edgekd.devices.connect import Connected
from edgekd.errors import LostError
from edgekd.file_record import ARTIFACT_FILE, finish
from edgekd.files import hash_value, write_text
from edgekd.folders import finished
from edgekd.measure.conditions import conditions
from edgekd.measure.environment import cpu, environment, versions
from edgekd.metrics.metric import Measurements, Metric, Weights
from edgekd.metrics.registry import load_metrics
from edgekd.processes.ray_pool import Cluster
from edgekd.progress import Progress
from edgekd.report.data_schema import DataRecord
from edgekd.report.pictures import Gallery
from edgekd.report.render import RENDERED_FILES, render
from edgekd.report.schema import (
    Curves,
    Environment,
    Report,
    Row,
    SuiteRecord,
    SuiteSpeed,
)
from edgekd.search.result import SearchResult

REAL_ROW = "real images"
STOPPED = "the run was stopped"


@dataclass(frozen=True)
class MatrixRequest:
    """What a benchmark is asked for.

    Attributes:
        cases: rows of the matrix, at least one teacher.
        key: content key of the report; an unchanged finished report is returned as it is.
        curves: name -> `metrics.jsonl` of a training run, plotted in the report.
        deploy: runtime and precision of the headline's student row.
        search: that found the student, for its place in the report.
        devices: all of the suite's but this machine.
        cluster: that draws the pictures; times and memory are those of this machine all the same.
    """

    suite: Suite
    cases: tuple[Case, ...]
    data: PreparedData
    key: str
    curves: dict[str, Path] = field(default_factory=dict)
    deploy: tuple[str, str] | None = None
    search: SearchResult | None = None
    devices: tuple[Connected, ...] = ()
    cluster: Cluster | None = None


def benchmark(
    request: MatrixRequest, out: Path, progress: Progress, extractors: Extractors | None = None
) -> BenchmarkReport:
    """Measure all cases on the validation prompts and write `report.{json,html,md}`.

    What goes wrong with a row is its `failed`, and stops no other. A run that is stopped leaves a
    report of what was measured, and goes on when it is called again.

    Args:
        out: report folder; keeps a cache of measurements between runs.
        extractors: features and scores; default: the shipped ones.

    Raises:
        InputError: cases or data that cannot be compared.
        GateError: a feature of a real image that is not finite.
        LostError: the cluster's head is gone.
    """
    asked = asked_metrics(request.suite, load_metrics())
    weights = Weights(**request.suite.weights.model_dump())
    networks = open_networks(asked, weights, extractors or StarterExtractors())
    metrics = networks.measurable(asked)
    descriptors = [metric.descriptor.model_dump() for metric in metrics]
    devices = [[one.name, one.device_class, one.description] for one in request.devices]
    here = [cpu(), versions()]
    key = hash_value([request.key, descriptors, networks.names, devices, here])
    report = BenchmarkReport(out, key)
    if finished(out, report.key, progress.info) is not None:
        return report
    check_cases(list(request.cases))
    training = {name: load_curve(path) for name, path in request.curves.items()}
    costs = {name: load_cost(path) for name, path in request.curves.items()}
    found = [training_sheet(name, path) for name, path in request.curves.items()]
    sheets = [one for one in found if one is not None]
    out.mkdir(parents=True, exist_ok=True)
    (out / ARTIFACT_FILE).unlink(missing_ok=True)  # what is here is not whole any more
    matrix = make_matrix(request, metrics, out, progress)
    measured = begin(matrix, networks)

    def write(stopped: str | None) -> None:
        rows = make_rows(matrix, measured, stopped)
        rows += device_rows(matrix, measured, rows)
        content = make_report(matrix, measured, rows, training, request.deploy)
        told = {name: cost for name, cost in costs.items() if cost}
        added = {"search": request.search, "training": told, "partial": stopped}
        content = content.model_copy(update=added)
        write_text(report.json_path, content.model_dump_json(indent=2) + "\n")
        gallery = replace(make_gallery(matrix, measured), sheets=sheets)
        render(content, out, gallery)

    try:
        measure(matrix, networks, measured, progress)
        progress.info("writing the report")
    except (KeyboardInterrupt, SystemExit, LostError):
        progress.info(f"stopped; what was measured is in {report.html_path}")
        write(STOPPED)
        raise
    write(None)
    matrix.cache.prune()
    if not matrix.failures.reasons:  # else the next run tries again
        finish(out, report.key, only=("report.json", *RENDERED_FILES), suite=request.suite.name)
    return report


def make_matrix(
    request: MatrixRequest, metrics: tuple[Metric, ...], out: Path, progress: Progress
) -> Matrix:
    suite = asked_suite(request.suite, metrics)
    cases = tuple(case.with_generation(suite.generation) for case in request.cases)
    failures = Failures(progress)
    for case in cases:
        if case.failed:
            failures.record(case.name, case.failed)
    return Matrix(
        suite=suite,
        metrics=metrics,
        cases=cases,
        keys={case.name: case.key() for case in cases if not case.failed},
        data=request.data,
        prompts=select_prompts(
            request.data, suite.quality.samples, suite.quality.seed, suite.quality.prompts
        ),
        cache=Cache(out / "cache"),
        failures=failures,
        devices=request.devices,
        cluster=request.cluster,
    )


def begin(matrix: Matrix, networks: Networks) -> MatrixFigures:
    """What every row is held against, and no row yet."""
    real, reference = real_pictures(matrix, networks)
    threads = matrix.suite.speed.threads if matrix.suite.speed else 1
    return MatrixFigures(real, reference, threads=threads)


def measure(
    matrix: Matrix, networks: Networks, measured: MatrixFigures, progress: Progress
) -> None:
    """Draw, time and weigh all cases that run here; `measured` holds each figure once it is there.

    One row is drawn after the other, each in processes of its own.
    """
    for case in matrix.runnable:
        with matrix.failures.caught(case.name):
            draw_missing(matrix, case, progress)
            measured.pictures[case.name] = drawn_pictures(matrix, networks, case)
    measured.speed = speed_of_all(matrix, progress)
    measured.memory = memory_of_all(matrix, progress)
    measured.start = cold_starts_of_all(matrix, progress)
    measured.devices = cost_on_devices(matrix, progress)
    measured.scaling = scaling_of_all(matrix, progress)
    measured.embeddings = inner_features(matrix, measured.real.images, progress)


def make_report(
    matrix: Matrix,
    measured: MatrixFigures,
    rows: list[Row],
    curves: Curves,
    deploy: tuple[str, str] | None,
) -> Report:
    """Everything that `report.json` holds."""
    prompts, reference = matrix.prompts, measured.reference
    descriptors = [one.descriptor.with_reference(reference, len(prompts)) for one in matrix.metrics]
    summary = headline(headline_rows(rows, matrix.suite.devices, deploy), descriptors, deploy)
    drawn = {name: pictures.features for name, pictures in measured.pictures.items()}
    sets, teacher = {"real": measured.real.features} | drawn, matrix.torch_case("teacher")
    own = {row.name: row.pictures_of or row.name for row in rows}  # whose pictures a row's are
    students = [row.name for row in rows if row.role == "student" and row.pictures_of is None]
    chosen = summary.rows.student and own[summary.rows.student]
    shown = shown_sets(sets, own[summary.rows.teacher], chosen, students)
    real = Measurements(reference=reference, pictures=measured.real)
    created = datetime.datetime.now(datetime.timezone.utc)
    return Report(
        edgekd=__version__,
        created=created.isoformat(timespec="seconds"),
        suite=SuiteRecord.model_validate(
            {
                **matrix.suite.model_dump(include={"name", "description", "memory"}),
                "speed": matrix.suite.speed
                and matrix.suite.speed.model_dump(include=set(SuiteSpeed.model_fields)),
                "seed": matrix.suite.quality.seed,
            }
        ),
        environment=make_environment(measured.speed),
        load_average_before_timing=measured.speed.load_average if measured.speed else None,
        data=DataRecord(
            key=prompts.content,
            resolution=matrix.data.resolution,
            validation=matrix.data.validation,
            prompts=len(prompts.different),
            own_prompts=bool(prompts.images),
            pictures=len(prompts),
            prompts_by_holdout={
                kind: prompts.holdouts.count(kind) for kind in sorted(set(prompts.holdouts))
            },
            reference=prompts.reference_count,
        ),
        extractor=reference.extractor,
        descriptors=descriptors,
        metrics=summary,
        real=figures_of(REAL_ROW, matrix.metrics, real),
        rows=rows,
        devices=[one.record for one in measured.devices],
        embeddings=measured.embeddings,
        scaling=measured.scaling,
        prompts=list(prompts.different),
        curves=curves,
        projections=picture_projections(shown, reference.features, reference.seed, matrix.cache),
        nearness=picture_nearness(drawn, teacher.name if teacher else summary.rows.teacher),
    )


def make_environment(speed: SpeedResult | None) -> Environment:
    """This machine; governor and temperature as they are now."""
    found = conditions()
    throttled = None if speed is None else speed.throttled
    state = {"governor": found.governor, "temperature_c": found.temperature_c}
    return Environment.model_validate({**environment(), **state, "throttled": throttled})


def make_gallery(matrix: Matrix, measured: MatrixFigures) -> Gallery:
    """Pictures from the same noise, side by side, with the real images of prompts that have one."""
    prompts = matrix.prompts
    indices = prompts.spread(matrix.suite.pictures)
    rows = measured.pictures if prompts.images else {REAL_ROW: measured.real} | measured.pictures
    return Gallery(
        captions=[prompts.captions[index] for index in indices],
        holdouts=[] if prompts.images else [prompts.holdouts[index] for index in indices],
        rows={name: [pictures.images[i] for i in indices] for name, pictures in rows.items()},
    )
