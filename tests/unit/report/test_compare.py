from collections.abc import Callable

import numpy as np
import pytest

from edgekd.metrics.metric import Figure
from edgekd.recipe import RowGeneration
from edgekd.report.compare import Named, caveats, compare, find_report, match_rows, same_noise
from edgekd.report.comparison import Change, Comparison
from edgekd.report.schema import Report, Row

NAME = "sd-small onnx fp32"


@pytest.fixture
def later(full_report) -> Report:
    return full_report.model_copy(deep=True)


def row_of(report: Report, name: str = NAME) -> Row:
    return next(row for row in report.rows if row.name == name)


def against(first: Report, last: Report) -> Comparison:
    return compare([Named("a", first), Named("b", last)])


def change_of(comparison: Comparison, metric: str, name: str = NAME) -> Change:
    row = next(row for row in comparison.rows if name in row.names)
    return next(one for one in row.changes if one.metric == metric)


def scale_times(row: Row, factor: float) -> None:
    image = row.speed["image"]
    samples = [factor * one for one in image.samples_ms]
    p50 = float(np.percentile(samples, 50))
    row.speed["image"] = image.model_copy(update={"samples_ms": samples, "p50_ms": p50})
    row.figures["latency_ms"] = Figure(value=p50)


def shift_score(row: Row, shift: float, spread: float) -> None:
    noise = spread * np.random.default_rng(8).normal(size=64)
    samples = (np.array(row.figures["score"].samples) + shift + noise - noise.mean()).tolist()
    row.figures["score"] = Figure(value=float(np.mean(samples)), samples=samples)


def test_a_report_against_itself_is_the_same(full_report, later):
    found = against(full_report, later)
    verdicts = {one.verdict for row in found.rows for one in row.changes}
    assert verdicts == {"same", "same within noise"}
    assert found.caveats == ["not everything was measured: " + full_report.partial]
    assert len(found.rows) == len(full_report.rows)


def test_scores_are_paired_where_prompts_and_noise_are_equal(full_report, later):
    shift_score(row_of(later), -0.2, 0.1)
    found = change_of(against(full_report, later), "score")
    assert found.test.startswith("paired, n=64: -0.2 ± 0.01")
    assert found.verdict == "worse"
    assert found.low < -0.2 < found.high < 0


@pytest.mark.parametrize("other", ["prompts", "seed", "key"])
def test_scores_of_other_prompts_or_noise_are_not_paired(full_report, later, other):
    shift_score(row_of(later), -0.2, 0.1)
    if other == "prompts":
        later.prompts = ["another", *later.prompts[1:]]
    elif other == "seed":
        later.suite.seed = 7
    else:
        later.data.key = "another"
    assert not same_noise(full_report, later)
    found = change_of(against(full_report, later), "score")
    assert found.test.startswith("Welch, n=64 and 64")
    assert found.verdict == "same within noise"
    assert any("not paired" in one for one in caveats(full_report, later))


@pytest.mark.parametrize(
    ("factor", "verdict"), [(0.7, "better"), (1.04, "same within noise"), (1.3, "worse")]
)
def test_latency_is_judged_by_its_raw_samples(full_report, later, factor, verdict):
    scale_times(row_of(later), factor)
    found = change_of(against(full_report, later), "latency_ms")
    assert found.verdict == verdict
    assert found.ratio == pytest.approx(factor)
    assert found.low <= factor <= found.high
    assert "n=7 and 7" in found.test


@pytest.mark.parametrize("alone", [False, True], ids=["wall-clock", "processor time"])
def test_times_of_a_busy_machine_judge_nothing(full_report, later, alone):
    """Whether the figure is a median or the least processor time, which has no samples here."""
    scale_times(row_of(later), 2.0)
    image = row_of(later).speed["image"]
    row_of(later).speed["image"] = image.model_copy(update={"busy": True})
    if alone:
        row_of(later).figures["latency_ms"] = Figure(value=1.5 * image.p50_ms)
    found = change_of(against(full_report, later), "latency_ms")
    assert found.verdict == "same within noise"
    assert "not to be trusted" in found.test


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(135, 150, "worse"), (125, 150, "same within noise")]
)
def test_figures_with_intervals_alone_must_not_overlap(full_report, later, low, high, verdict):
    row_of(later).figures["fd"] = Figure(value=140, low=low, high=high)
    assert change_of(against(full_report, later), "fd").verdict == verdict


def test_bytes_are_exact_and_memory_is_not(full_report, later):
    row = row_of(later)
    for name in ("size_bytes", "peak_bytes"):
        row.figures[name] = Figure(value=1.01 * row.value(name))
    found = against(full_report, later)
    assert change_of(found, "size_bytes").verdict == "worse"
    assert change_of(found, "peak_bytes").verdict == "same within noise"


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.04, "same within noise"), (1.06, "worse"), (0.94, "better")]
)
def test_times_without_samples_differ_by_more_than_runs_do(full_report, later, factor, verdict):
    for report, value in ((full_report, 100.0), (later, 100.0 * factor)):
        row_of(report).figures["cpu_ms"] = Figure(value=value)
    found = change_of(against(full_report, later), "cpu_ms")
    assert found.verdict == verdict
    assert "equal within 5 %" in found.test


def test_a_value_of_a_set_without_an_interval_has_no_verdict(full_report, later):
    """Two pictures more that are recalled, of 64, are no improvement yet."""
    for report, value in ((full_report, 0.50), (later, 0.53)):
        row_of(report).figures["recall"] = Figure(value=value)
    found = change_of(against(full_report, later), "recall")
    assert (found.verdict, found.test) == (
        "not comparable",
        "not comparable: values of a set without an interval",
    )
    assert found.ratio == pytest.approx(1.06)
    row_of(later).figures["recall"] = Figure(value=0.50)
    assert change_of(against(full_report, later), "recall").verdict == "same within noise"


def test_nothing_is_a_share_of_a_negative_value(full_report, later):
    """An estimate without bias of a small distance may be below 0."""
    row_of(full_report).figures["kid"] = Figure(value=-0.0002, low=-0.0005, high=0.0001)
    row_of(later).figures["kid"] = Figure(value=0.02, low=0.018, high=0.022)
    found = change_of(against(full_report, later), "kid")
    assert found.ratio is None
    assert found.verdict == "worse"


def test_another_extractor_or_count_is_not_comparable(full_report, later):
    later.descriptors = [
        one.model_copy(update={"full_name": "FD-other-n1000"}) if one.name == "fd" else one
        for one in later.descriptors
    ]
    found = change_of(against(full_report, later), "fd")
    assert found.verdict == "not comparable"
    assert found.ratio is None
    assert found.test == "not comparable: FD-efficientnet_lite0-r128-n64, FD-other-n1000"


@pytest.mark.parametrize("other", ["seed", "key"])
def test_distances_to_other_real_images_are_not_comparable(full_report, later, other):
    if other == "seed":
        later.suite.seed = 7
    else:
        later.data.key = "another"
    found = change_of(against(full_report, later), "fd")
    assert (found.verdict, found.ratio) == ("not comparable", None)
    assert found.test == "not comparable: held against other real images"


def test_types_of_storage_are_not_comparable(full_report, later):
    row_of(later, "sd-small torch fp32").stored_dtype = "fp16"
    found = change_of(against(full_report, later), "size_bytes", "sd-small torch fp32")
    assert found.test == "not comparable: stored as fp32, as fp16"


def test_rows_are_matched_by_what_they_are_not_by_name_or_place(full_report, later):
    later.rows.reverse()
    for row in later.rows:
        row.name = f"renamed {row.name}"
    lines = match_rows([full_report, later])
    assert len(lines) == len(full_report.rows)
    assert all(line.rows[1].name == f"renamed {line.rows[0].name}" for line in lines)


@pytest.mark.parametrize(
    "alter",
    [
        lambda row: setattr(row, "model", "another"),
        lambda row: setattr(row, "precision", "fp16"),
        lambda row: setattr(row, "generation", RowGeneration("LCMScheduler", 4, 1.0)),
    ],
)
def test_another_way_of_drawing_is_another_row(full_report, later, alter: Callable[[Row], None]):
    alter(row_of(later))
    found = against(full_report, later)
    states = [row.states for row in found.rows if NAME in row.names]
    assert sorted(states) == [["measured", "no such row"], ["no such row", "measured"]]


def test_a_row_that_fails_now_is_matched_and_said(full_report, later):
    row = row_of(later)
    row.failed, row.generation = "no memory", None
    row.figures["fd"] = None
    found = against(full_report, later)
    matched = next(one for one in found.rows if NAME in one.names)
    assert matched.states == ["measured", "failed"]
    assert change_of(found, "fd").verdict == "no value"


def test_rows_of_two_devices_are_not_mixed(full_report, later):
    for report in (full_report, later):
        report.rows.append(row_of(report).model_copy(update={"device": "phone", "name": "phone"}))
    later.rows.reverse()
    lines = match_rows([full_report, later])
    assert all(line.rows[0].device == line.rows[1].device for line in lines)


def test_what_else_differs_is_said(full_report, later):
    later.environment.cpu = later.environment.cpu.model_copy(update={"model": "M4"})
    later.environment.versions = {"torch": "2.13.0", "onnxruntime": "1.33.0"}
    later.suite.speed.threads = 2
    said = caveats(full_report, later)
    assert "processors differ: AMD EPYC, M4" in said
    assert "libraries differ: onnxruntime 1.32.0, 1.33.0" in said
    assert "timing differ: threads 1, 2" in said


def test_a_report_is_found_in_its_folder_and_its_run(full_report, tmp_path):
    folder = tmp_path / "run" / "report"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text("{}")
    for argument in (tmp_path / "run", folder, folder / "report.json"):
        assert find_report(argument) == folder / "report.json"
