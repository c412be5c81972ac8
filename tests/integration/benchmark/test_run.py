"""A whole benchmark of two tiny torch rows, drawn, timed and weighed by real processes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekd.artifacts import BenchmarkReport, PreparedData
from edgekd.benchmark.cases import Case
from edgekd.benchmark.run import MatrixRequest, benchmark
from edgekd.benchmark.suite import Suite
from edgekd.benchmark.workers import read_images
from edgekd.data.prepare import prepare
from edgekd.errors import GateError, InputError
from edgekd.folders import finished
from edgekd.jobs.gates import check_gates, gates
from edgekd.jobs.summary import summary_lines
from edgekd.processes.child import Child
from edgekd.processes.pool import Pool
from edgekd.progress import Silent
from edgekd.recipe import DataSection, FilterSection, Recipe, RowGeneration, SplitSection
from edgekd.recipe_distill import DistillSection
from edgekd.report.schema import Report, Row, read_report
from edgekd.target import load_target

SUITE = Suite(
    name="tiny",
    generation={"steps": 2, "guidance_scale": 3.0},
    quality={"samples": 6, "batch_size": 4, "workers": 2, "kid_subset_size": 2, "kid_subsets": 2},
    speed={"threads": 1, "warmup": 1, "component_runs": 2, "image_runs": 3},
    pictures=3,
)


FEW = RowGeneration("EulerDiscreteScheduler", 1, 1.0)


class ToyExtractors:
    """Mean colour as features: enough to see that figures reach the report."""

    extractor, scorer = "toy-r1", "toy"

    def __init__(self, key: str = "toy") -> None:
        self.key = key

    def features(self, images: Any) -> Any:
        return images.mean(axis=(1, 2)).astype(np.float32)

    def scores(self, images: Any, captions: Any) -> Any:
        return images.std(axis=(1, 2, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> PreparedData:
    source = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for index in range(30):
        pixels = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(source / f"{index}.png")
        (source / f"{index}.txt").write_text(f"thing {index} <b>")
    section = DataSection(
        sources=[str(source)],
        resolution=32,
        workers=1,
        filters=FilterSection(duplicate_distance=-1),
        split=SplitSection(group_fraction=0.3, image_fraction=0.4),
    )
    return prepare(section, tmp_path_factory.mktemp("prepared") / "data", Silent())


@pytest.fixture(scope="module")
def cases(shallow_teacher) -> list[Case]:
    teacher = Case("teacher", "teacher", "torch", "fp32", shallow_teacher)
    absent = replace(teacher, name="phone", role="student", runtime="coreml", not_executed="no Mac")
    twin = replace(teacher, name="twin", role="student")
    drawn = replace(teacher, name="evaluated", role="student", evaluated="by its files")
    few = replace(drawn, name="few", generation=FEW)
    return [teacher, twin, absent, drawn, few]


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def metrics_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("curves") / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": i, "loss": 1 / i}) + "\n" for i in range(1, 9)))
    return path


@pytest.fixture(scope="module")
def report(data, cases, out, metrics_path) -> BenchmarkReport:
    return run(cases, data, out, "k1", {"twin": metrics_path})


def run(
    cases: list[Case],
    data: PreparedData,
    out: Path,
    key: str,
    curves: dict[str, Path] | None = None,
    extractors: Any = None,
) -> BenchmarkReport:
    request = MatrixRequest(SUITE, tuple(cases), data, key, curves or {})
    return benchmark(request, out, Silent(), extractors or ToyExtractors())


@pytest.fixture(scope="module")
def content(report) -> Report:
    return read_report(report.json_path)


def row_of(content: Report, name: str) -> Row:
    return next(row for row in content.rows if row.name == name)


def scores_of(content: Report, name: str) -> list[float] | None:
    figure = row_of(content, name).figures["score"]
    return figure.samples


def test_all_three_forms_of_the_report_are_there(report):
    assert finished(report.root, report.key) is not None
    assert report.html_path.is_file()
    assert (report.root / "report.md").is_file()


def test_headline_has_the_names_of_the_main_job(content):
    names = {"parameters", "latency_ms", "peak_bytes", "fd", "kid", "score"}
    for part in (content.metrics.teacher, content.metrics.student, content.metrics.ratios):
        assert part is not None
        assert names <= set(part)
    assert (content.metrics.rows.teacher, content.metrics.rows.student) == ("teacher", "twin")


def test_equal_cases_draw_equal_pictures_from_equal_noise(content):
    twin, teacher = row_of(content, "twin"), row_of(content, "teacher")
    assert twin.to_teacher.psnr_db == 100
    assert teacher.to_teacher is teacher.to_student is None
    assert scores_of(content, "twin") == scores_of(content, "teacher")
    assert content.metrics.ratios["fd"] == 1
    # Different prompts have different noise: not one picture over and over.
    assert len(set(scores_of(content, "teacher") or ())) == 6


def test_a_row_of_few_steps_stands_beside_others(content, report):
    twin, few = row_of(content, "twin"), row_of(content, "few")
    assert twin.generation == RowGeneration("DDIMScheduler", 2, 3.0)
    assert few.generation == FEW
    assert few.to_teacher.psnr_db < 100  # one folder, drawn in another way
    assert str(FEW) in report.html_path.read_text()


def test_every_raw_sample_is_kept(content):
    for name in ("teacher", "twin"):
        speed = row_of(content, name).speed
        assert len(speed["image"].samples_ms) == 3
        assert {"text_encoder", "unet", "unet_guided", "vae_decoder", "image"} == set(speed)


def test_memory_is_that_of_a_process_that_loaded_the_row(content, shallow_teacher):
    memory = row_of(content, "teacher").memory
    # torch and diffusers alone need hundreds of MB; the tiny models some more.
    assert memory.baseline_bytes > 100 * 2**20
    assert memory.above_baseline_bytes > 2**20


def test_what_cannot_run_here_has_facts_and_a_reason_but_no_figures(content):
    phone = row_of(content, "phone")
    assert phone.not_executed == "no Mac"
    assert (phone.value("size_bytes") or 0) > 0
    assert phone.value("fd") is phone.value("latency_ms") is phone.memory is None
    assert phone.speed == {}


def test_what_is_evaluated_has_quality_but_neither_times_nor_memory(content):
    drawn = row_of(content, "evaluated")
    assert drawn.evaluated == "by its files"
    assert scores_of(content, "evaluated") == scores_of(content, "twin")
    assert (drawn.speed, drawn.memory, drawn.value("peak_bytes")) == ({}, None, None)
    assert row_of(content, "twin").evaluated is None


def test_real_images_and_counts_are_stated(content, data):
    assert content.data.prompts == 6
    assert content.data.reference == data.validation - 6
    names = {one.name: one.full_name for one in content.descriptors}
    # KID's subsets shrink to the smaller set.
    assert (names["fd"], names["kid"]) == ("FD-toy-r1-n6", "KID-toy-r1-n6-s2x2")
    assert content.real["fd"] is not None
    assert content.environment.versions["torch"]
    assert content.curves["twin"]["loss"][0] == (1.0, 1.0)


def test_a_second_run_measures_nothing_again(report, data, cases, monkeypatch):
    """Another key (another recipe, say), the same rows: only the report is written."""

    def refuse(*_):
        raise AssertionError("a worker was started")

    before = json.loads(report.json_path.read_text())
    monkeypatch.setattr(Pool, "submit", refuse)
    monkeypatch.setattr(Child, "call", refuse)
    again = run(cases, data, report.root, "k2")
    after = json.loads(again.json_path.read_text())
    assert after["rows"] == before["rows"]
    assert after["prompts"] == before["prompts"]


def test_a_killed_drawing_goes_on_at_its_batch(report, data, cases, monkeypatch):
    batches = {path: read_images(path) for path in (report.root / "cache").glob("pictures-*")}
    last = next(path for path, images in batches.items() if len(images) == 2)
    lost = last.read_bytes()
    last.unlink()
    asked = []

    def take(self, function, orders):
        asked.extend(orders)
        last.write_bytes(lost)
        return []

    monkeypatch.setattr(Pool, "each", take)
    run(cases, data, report.root, "k3")
    # Rows of one content share their pictures.
    assert {order.out for order in asked} == {last.absolute()}
    assert all(order.indices == [4, 5] for order in asked)


BRIGHTNESS = """
from edgekd.metrics.metric import Descriptor, Figure, Metric, of_pictures
VALUE = Metric(
    Descriptor(name="brightness", label="Brightness", title="Mean grey", unit="levels",
               direction="higher", source="pictures", full_name="grey-n{samples}",
               places=("column", "card", "summary", "plot"), note="mean of all pixels"),
    of_pictures(lambda pictures, _: Figure(value=float(pictures.images.mean()))),
)
"""


def test_a_metric_from_outside_is_in_every_part_of_the_report(install, report, data, cases):
    install("edgekd.metrics", "brightness", BRIGHTNESS)
    again = run(cases, data, report.root, "k1")
    found = read_report(again.json_path)
    value = row_of(found, "twin").value("brightness")
    assert value is not None
    assert found.metrics.ratios["brightness"] == 1
    texts = [again.html_path.read_text(), (again.root / "report.md").read_text()]
    for text in texts:
        for part in ("Brightness ↑", "Mean grey", "mean of all pixels", f"{value:.0f}"):
            assert part in text
    assert "Brightness (higher is better)" in texts[0]  # its plot
    assert any("grey-n6" in text.replace("\\", "") for text in texts)
    result = {"metrics": found.metrics.model_dump(), "student": "", "export": "", "report": ""}
    assert any(line.startswith("Brightness ↑") for line in summary_lines(result))
    bounds = {"max_fd_ratio": 1.0, "min_brightness_ratio": 2.0}
    recipe = Recipe(name="r", distill=DistillSection(steps=1), quality_floor=bounds)
    floor = gates(recipe, load_target("onnx"), found.descriptors)
    with pytest.raises(GateError, match=r"`quality_floor.min_brightness_ratio`: >= 2.0 must hold"):
        check_gates(floor, found.metrics, again.root)


def test_features_that_are_nan_fail_and_leave_nothing_that_looks_finished(
    report, data, cases, monkeypatch
):
    extractors = ToyExtractors(key="broken")
    monkeypatch.setattr(extractors, "features", lambda images: np.full((len(images), 3), np.nan))
    with pytest.raises(GateError, match="every image feature must be finite"):
        run(cases, data, report.root, "k5", extractors=extractors)
    assert not (report.root / "artifact.json").exists()
    monkeypatch.undo()
    run(cases, data, report.root, "k5", extractors=extractors)


def test_bad_input_is_found_before_anything_is_written(data, cases, tmp_path):
    out = tmp_path / "report"
    with pytest.raises(InputError, match="must have a teacher row"):
        run(cases[1:], data, out, "k")
    curves = {"twin": tmp_path / "none.jsonl"}
    with pytest.raises(InputError, match="training metrics must exist"):
        run(cases, data, out, "k", curves)
    assert not out.exists()
