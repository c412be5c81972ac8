"""A whole benchmark of two tiny torch rows, drawn, timed and weighed by real processes."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures import pickscore

from edgekd.artifacts import BenchmarkReport, PreparedData
from edgekd.benchmark import run as run_module
from edgekd.benchmark import workers
from edgekd.benchmark.cases import Case
from edgekd.benchmark.extract import ShippedRows
from edgekd.benchmark.prompts import select_prompts
from edgekd.benchmark.run import MatrixRequest, benchmark
from edgekd.benchmark.suite import Suite, WeightsSection
from edgekd.benchmark.workers import read_images
from edgekd.errors import GateError, InputError
from edgekd.folders import finished
from edgekd.jobs.answers import DistillAnswer
from edgekd.jobs.gates import check_gates, gates
from edgekd.jobs.summary import summary_lines
from edgekd.metrics.caption_fit import normalise, side_by_side
from edgekd.metrics.extractors.clip import ClipExtractor
from edgekd.processes.child import Child
from edgekd.processes.pool import Pool
from edgekd.progress import Silent
from edgekd.recipe import Recipe, RowGeneration
from edgekd.recipe_distill import DistillSection
from edgekd.report.schema import Report, Row, read_report
from edgekd.target import load_target

SUITE = Suite(
    name="tiny",
    generation={"steps": 2, "guidance_scale": 3.0},
    quality={"samples": 6, "batch_size": 4, "workers": 1, "kid_subset_size": 2, "kid_subsets": 2},
    speed={"threads": 1, "warmup": 1, "component_runs": 2, "image_runs": 3, "busy_repeats": 0},
    pictures=3,
)


FEW = RowGeneration("EulerDiscreteScheduler", 1, 1.0)


class ToyExtractors:
    """Mean colour as features: enough to see that figures reach the report."""

    extractor, scorer = "toy-r1", "toy"

    def __init__(self, key: str = "toy") -> None:
        self.key = key

    def __call__(self, images: Any, captions: Any) -> ShippedRows:
        features = images.mean(axis=(1, 2)).astype(np.float32)
        grey = np.ones((len(captions), 3), np.float32)
        return ShippedRows(features, side_by_side(normalise(features), normalise(grey)))


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
    assert (twin.to_teacher.psnr_db, twin.to_teacher.ssim) == (100, pytest.approx(1))
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
    assert memory.baseline_bytes <= memory.loaded_bytes <= memory.peak_bytes


def test_cold_start_energy_and_contention_reach_the_report(content):
    for name in ("teacher", "twin"):
        row = row_of(content, name)
        assert row.start.total_ms == sum(row.start.samples_ms) > row.start.process_ms > 0
        assert row.energy.source
        assert row.speed["image"].p99_ms >= row.speed["image"].p90_ms
    assert row_of(content, "few").start is row_of(content, "few").energy is None


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


def test_students_are_looked_into_beside_the_teacher(content):
    (found,) = content.embeddings
    assert (found.teacher, found.student, found.samples) == ("teacher", "twin", 6)
    assert min(one.cka for one in found.agreement) == pytest.approx(1)
    assert set(content.nearness) == {"twin", "evaluated", "few"}
    assert content.nearness["twin"].procrustes == pytest.approx(0)
    points = content.projections[0].points
    assert set(points) == {"reference images", "real", "teacher", "twin", "evaluated", "few"}


def test_real_images_and_counts_are_stated(content, data):
    assert content.data.prompts == 6
    assert content.data.reference == data.validation - 6
    names = {one.name: one.full_name for one in content.descriptors}
    # KID's subsets shrink to the smaller set.
    assert (names["fd"], names["kid"]) == ("FD-toy-r1-n6", "KID-toy-r1-n6-s2x2")
    assert content.real["fd"] is not None
    assert content.environment.versions["torch"]
    assert content.curves["twin"]["loss"][0] == (1.0, 1.0)


def test_the_datas_key_is_of_its_images_and_not_of_the_code_that_prepared_them(content, data):
    """Else no two versions' reports could be compared picture by picture."""
    again = select_prompts(replace(data, key="of another version"), 6, seed=1)
    assert content.data.key == again.content != data.key


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


def test_a_report_is_of_this_machine_and_its_versions(report, data, cases, monkeypatch):
    """Its rows are looked up anew elsewhere: times are not those of another processor."""
    root = report.root
    run(cases, data, root, "k4")
    written = (root / "report.json").stat().st_mtime_ns
    run(cases, data, root, "k4")
    assert (root / "report.json").stat().st_mtime_ns == written
    monkeypatch.setattr(run_module, "cpu", lambda: {"model": "another", "instruction_sets": []})
    run(cases, data, root, "k4")
    assert (root / "report.json").stat().st_mtime_ns > written


def test_a_killed_drawing_goes_on_at_its_batch(report, data, cases, monkeypatch):
    batches = {path: read_images(path) for path in (report.root / "cache").glob("pictures-*")}
    last = next(path for path, images in batches.items() if len(images) == 2)
    lost = last.read_bytes()
    last.unlink()
    asked = []

    def take(pool, function, orders):
        asked.extend(orders)
        last.write_bytes(lost)
        return []

    monkeypatch.setattr(workers, "each", take)
    run(cases, data, report.root, "k3")
    # Rows of one content share their pictures.
    assert {order.out for order in asked} == {last.absolute()}
    assert all(order.indices == [4, 5] for order in asked)


BRIGHTNESS = """
import numpy as np
from edgekd.metrics.metric import Descriptor, Figure, Metric, of_pictures
VALUE = Metric(
    Descriptor(name="brightness", label="Brightness", title="Mean grey", unit="levels",
               direction="higher", source="pictures", full_name="grey-n{samples}",
               places=("column", "card", "summary", "plot"), note="mean of all pixels"),
    of_pictures(lambda pictures, _: Figure(value=float(np.mean(list(pictures.images))))),
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
    places = dict.fromkeys(("student", "export", "report", "teacher"), report.root)
    result = DistillAnswer(metrics=found.metrics, bundles={}, busy=[], **places)
    assert any(line.startswith("Brightness ↑") for line in summary_lines(result))
    bounds = {"max_fd_ratio": 1.0, "min_brightness_ratio": 2.0}
    recipe = Recipe(name="r", distill=DistillSection(steps=1), quality_floor=bounds)
    floor = gates(recipe, load_target("onnx"), found.descriptors)
    with pytest.raises(GateError, match=r"`quality_floor.min_brightness_ratio`: >= 2.0 must hold"):
        check_gates(floor, found.metrics, again.root)


def test_a_preference_scorer_from_outside_brings_its_network(
    install, report, data, cases, tiny_clip, monkeypatch
):
    """A model of PickScore's class: one file, one entry point; left out without its folder."""
    from edgekd.libraries import transformers

    install("edgekd.metrics", "pickscore", Path(pickscore.__file__).read_text())
    monkeypatch.setenv(pickscore.VARIABLE, str(tiny_clip))
    found = read_report(run(cases, data, report.root, "k1").json_path)
    shown = next(one for one in found.descriptors if one.name == "pickscore")
    assert re.fullmatch("pickscore-[0-9a-f]{8}-n6", shown.full_name)
    figure = row_of(found, "twin").figures["pickscore"]
    assert found.metrics.ratios["pickscore"] == 1
    assert row_of(found, "few").to_teacher.differences["pickscore"].value != 0

    path = sorted((report.root / "cache").glob("real-*"))[0]
    image, caption = read_images(path)[0], found.prompts[0]
    model = transformers.CLIPModel.from_pretrained(tiny_clip).eval()
    processor = transformers.CLIPProcessor.from_pretrained(tiny_clip)
    inputs = processor(text=[caption], images=[image], truncation=True, return_tensors="pt")
    expected = model(**inputs).logits_per_image.detach().item()
    assert found.real["pickscore"].samples[0] == pytest.approx(expected, rel=1e-4)
    assert figure.low <= figure.value <= figure.high

    monkeypatch.delenv(pickscore.VARIABLE)
    without = read_report(run(cases, data, report.root, "k1").json_path)
    assert "pickscore" not in {one.name for one in without.descriptors}


def test_metrics_of_given_weights_are_in_the_report(report, data, cases, tiny_clip, monkeypatch):
    """The suite names a CLIP: its metrics appear under its hash, and are taken from the cache when
    the benchmark runs again."""
    suite = SUITE.model_copy(update={"weights": WeightsSection(clip=tiny_clip)})
    request = MatrixRequest(suite, tuple(cases), data, "k6")
    found = read_report(benchmark(request, report.root, Silent(), ToyExtractors()).json_path)
    names = {one.name: one.full_name for one in found.descriptors}
    assert re.fullmatch(r"CLIP-score-clip-bicubic32-[0-9a-f]{8}-n6", names["clip_score"])
    for name in ("clip_score", "cmmd", "clip_retrieval_r1"):
        assert row_of(found, "twin").figures[name] == row_of(found, "teacher").figures[name]
        assert found.real[name] is not None
    assert row_of(found, "few").value("cmmd") != row_of(found, "twin").value("cmmd")
    assert not {"fid", "fd_dinov2"} & set(names)
    monkeypatch.setattr(ClipExtractor, "__call__", None)
    again = benchmark(replace(request, key="k7"), report.root, Silent(), ToyExtractors())
    assert read_report(again.json_path).rows == found.rows


def test_no_more_than_a_batch_of_pictures_is_held(report, data, cases, monkeypatch):
    sizes = []

    class Counting(ToyExtractors):
        def __call__(self, images, captions):
            sizes.append(len(images))
            assert len(images) == len(captions)
            return super().__call__(images, captions)

    run(cases, data, report.root, "k8", extractors=Counting(key="counting"))
    drawn = [4, 2]  # six pictures by batches of four
    assert sizes[-2:] == drawn
    assert max(sizes) <= 64


def test_features_that_are_nan_fail_and_leave_nothing_that_looks_finished(
    report, data, cases, monkeypatch
):
    extractors = ToyExtractors(key="broken")
    nothing = np.full((64, 3), np.nan, np.float32)
    monkeypatch.setattr(ToyExtractors, "__call__", lambda *_: ShippedRows(nothing, nothing))
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
