"""A whole benchmark of two tiny torch subjects, drawn, timed and weighed by real processes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekd.artifacts import BenchmarkReport, PreparedData, finished
from edgekd.benchmark.run import benchmark
from edgekd.benchmark.subjects import Subject
from edgekd.benchmark.suite import Suite
from edgekd.data.prepare import prepare
from edgekd.errors import GateError, InputError
from edgekd.processes.pool import Pool
from edgekd.progress import Silent
from edgekd.recipe import DataSection, FilterSection, SplitSection

SUITE = Suite(
    name="tiny",
    generation={"steps": 2, "guidance_scale": 3.0},
    quality={"samples": 6, "batch_size": 4, "workers": 2, "kid_subset_size": 2, "kid_subsets": 2},
    speed={"threads": 1, "warmup": 1, "component_runs": 2, "image_runs": 3},
    pictures=3,
)


class ToyJudge:
    """Mean colour as features: enough to see that figures reach the report."""

    extractor, scorer = "toy-r1", "toy"

    def __init__(self, fd: float | None = None, key: str = "toy") -> None:
        self.key = key
        self._fd = fd

    def features(self, images: Any) -> Any:
        return images.mean(axis=(1, 2)).astype(np.float32)

    def scores(self, images: Any, captions: Any) -> Any:
        return images.std(axis=(1, 2, 3)).astype(np.float32)

    def fd(self, generated: Any, reference: Any) -> float:
        distance = np.abs(generated.mean(axis=0) - reference.mean(axis=0)).sum()
        return float(distance) if self._fd is None else self._fd

    def kid(self, a: Any, b: Any, subsets: int, subset_size: int, seed: int) -> Any:
        return 0.1, 0.01


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
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
def subjects(tiny_teacher: Path) -> list[Subject]:
    teacher = Subject("teacher", "teacher", "torch", "fp32", tiny_teacher)
    absent = replace(teacher, name="phone", role="student", runtime="coreml", not_executed="no Mac")
    twin = replace(teacher, name="twin", role="student")
    drawn = replace(teacher, name="evaluated", role="student", evaluated="by its files")
    return [teacher, twin, absent, drawn]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def metrics_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("curves") / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": i, "loss": 1 / i}) + "\n" for i in range(1, 9)))
    return path


@pytest.fixture(scope="module")
def report(
    data: PreparedData, subjects: list[Subject], out: Path, metrics_path: Path
) -> BenchmarkReport:
    curves = {"twin": metrics_path}
    return benchmark(SUITE, subjects, data, out, Silent(), "k1", curves, judge=ToyJudge())


@pytest.fixture(scope="module")
def content(report: BenchmarkReport) -> Any:
    return json.loads(report.json_path.read_text())


def row_of(content: Any, name: str) -> Any:
    return next(row for row in content["rows"] if row["name"] == name)


def test_all_three_forms_of_the_report_are_there(report: BenchmarkReport) -> None:
    assert finished(report.root, "k1") is not None
    assert report.html_path.is_file()
    assert (report.root / "report.md").is_file()


def test_headline_has_the_names_of_the_main_job(content: Any) -> None:
    names = {"parameters", "latency_ms", "peak_bytes", "fd", "kid", "score"}
    for part in ("teacher", "student", "ratios"):
        assert names <= set(content["metrics"][part])
    assert content["metrics"]["rows"] == {"teacher": "teacher", "student": "twin"}


def test_equal_subjects_draw_equal_pictures_from_equal_noise(content: Any) -> None:
    twin, teacher = row_of(content, "twin"), row_of(content, "teacher")
    assert twin["quality"]["to_teacher"]["psnr_db"] == 100
    assert teacher["quality"]["to_teacher"] is teacher["quality"]["to_student"] is None
    assert twin["quality"]["scores"] == teacher["quality"]["scores"]
    assert content["metrics"]["ratios"]["fd"] == 1
    # Different prompts have different noise: not one picture over and over.
    assert len(set(teacher["quality"]["scores"])) == 6


def test_every_raw_sample_is_kept(content: Any) -> None:
    for name in ("teacher", "twin"):
        speed = row_of(content, name)["speed"]
        assert len(speed["image"]["samples_ms"]) == 3
        assert {"text_encoder", "unet", "unet_guided", "vae_decoder", "image"} == set(speed)


def test_memory_is_that_of_a_process_that_loaded_the_subject(
    content: Any, tiny_teacher: Path
) -> None:
    memory = row_of(content, "teacher")["memory"]
    # torch and diffusers alone need hundreds of MB; the tiny models some more.
    assert memory["baseline_bytes"] > 100 * 2**20
    assert memory["above_baseline_bytes"] > 2**20


def test_what_cannot_run_here_has_facts_and_a_reason_but_no_figures(content: Any) -> None:
    phone = row_of(content, "phone")
    assert phone["not_executed"] == "no Mac"
    assert phone["size_bytes"] > 0
    assert phone["quality"] is phone["speed"] is phone["memory"] is None


def test_what_is_evaluated_has_quality_but_neither_times_nor_memory(content: Any) -> None:
    drawn = row_of(content, "evaluated")
    assert drawn["evaluated"] == "by its files"
    assert drawn["quality"]["scores"] == row_of(content, "twin")["quality"]["scores"]
    assert drawn["speed"] is drawn["memory"] is None
    assert row_of(content, "twin")["evaluated"] is None


def test_real_images_and_counts_are_stated(content: Any, data: PreparedData) -> None:
    assert content["data"]["prompts"] == 6
    assert content["data"]["reference"] == data.validation - 6
    assert content["metric_names"]["fd"] == "FD-toy-r1-n6"
    assert content["real"]["fd"] >= 0
    assert content["environment"]["versions"]["torch"]
    assert content["curves"]["twin"]["loss"][0] == [1.0, 1.0]


def test_a_second_run_measures_nothing_again(
    report: BenchmarkReport, data: PreparedData, subjects: list[Subject], monkeypatch: Any
) -> None:
    """Another key (another recipe, say), the same rows: only the report is written."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a worker was started")

    before = json.loads(report.json_path.read_text())
    monkeypatch.setattr(Pool, "submit", refuse)
    again = benchmark(SUITE, subjects, data, report.root, Silent(), "k2", {}, judge=ToyJudge())
    after = json.loads(again.json_path.read_text())
    assert after["rows"] == before["rows"]
    assert after["prompts"] == before["prompts"]


def test_a_killed_drawing_goes_on_at_its_batch(
    report: BenchmarkReport, data: PreparedData, subjects: list[Subject], monkeypatch: Any
) -> None:
    folder = next((report.root / "cache").glob("pictures-*"))
    batches = sorted(folder.iterdir())
    assert len(batches) == 2
    lost = batches[1].read_bytes()
    batches[1].unlink()
    asked = []

    def take(self: Pool, function: Any, orders: Any) -> Any:
        asked.extend(orders)
        batches[1].write_bytes(lost)
        return []

    monkeypatch.setattr(Pool, "each", take)
    benchmark(SUITE, subjects, data, report.root, Silent(), "k3", {}, judge=ToyJudge())
    assert {order.out for order in asked} == {batches[1].absolute()}
    assert {tuple(order.indices) for order in asked} == {(4, 5)}


def test_a_metric_that_is_nan_fails_and_leaves_nothing_that_looks_finished(
    report: BenchmarkReport, data: PreparedData, subjects: list[Subject]
) -> None:
    judge = ToyJudge(fd=float("nan"))
    with pytest.raises(GateError, match="`fd` of `teacher` is nan"):
        benchmark(SUITE, subjects, data, report.root, Silent(), "k4", {}, judge=judge)
    assert finished(report.root, "k4") is None
    assert not (report.root / "artifact.json").exists()


def test_features_that_are_nan_fail_and_are_not_kept(
    report: BenchmarkReport, data: PreparedData, subjects: list[Subject], monkeypatch: Any
) -> None:
    judge = ToyJudge(key="broken")
    monkeypatch.setattr(judge, "features", lambda images: np.full((len(images), 3), np.nan))
    with pytest.raises(GateError, match="every image feature must be finite"):
        benchmark(SUITE, subjects, data, report.root, Silent(), "k5", {}, judge=judge)
    monkeypatch.undo()
    benchmark(SUITE, subjects, data, report.root, Silent(), "k5", {}, judge=judge)


def test_bad_input_is_found_before_anything_is_written(
    data: PreparedData, subjects: list[Subject], tmp_path: Path
) -> None:
    out = tmp_path / "report"
    with pytest.raises(InputError, match="must have a teacher row"):
        benchmark(SUITE, subjects[1:], data, out, Silent(), "k", {}, judge=ToyJudge())
    curves = {"twin": tmp_path / "none.jsonl"}
    with pytest.raises(InputError, match="training metrics must exist"):
        benchmark(SUITE, subjects, data, out, Silent(), "k", curves, judge=ToyJudge())
    assert not out.exists()
