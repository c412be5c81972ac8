import json
from pathlib import Path

import pytest

from edgekd.benchmark.options import SuiteOptions
from edgekd.cli.benchmark import benchmark
from edgekd.errors import GateError, InputError
from edgekd.jobs import benchmark as jobs
from edgekd.jobs.answers import BenchmarkAnswer

ROWS = {"teacher": "t", "student": None}
METRICS = {"teacher": {}, "student": None, "ratios": None, "rows": ROWS}
RESULT = {"report": "r.html", "rows": {}, "metrics": METRICS, "failed": {}, "busy": []}


@pytest.fixture
def asked(monkeypatch, tmp_path) -> list[jobs.SuiteRequest]:
    requests: list[jobs.SuiteRequest] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        jobs,
        "benchmark_run",
        lambda request, _: requests.append(request) or BenchmarkAnswer.model_validate(RESULT),
    )
    return requests


def test_options_reach_the_job(asked, capsys):
    benchmark("smoke", models=["a=x"], targets=["onnx:int8"], skip=["kid"], as_json=True)
    options = SuiteOptions(models=["a=x"], targets=["onnx:int8"], skip=["kid"])
    assert [(one.suite, one.options, one.run) for one in asked] == [
        ("smoke", options, Path("runs/starter-smoke"))
    ]
    said = json.loads(capsys.readouterr().out)
    assert BenchmarkAnswer.model_validate(said) == BenchmarkAnswer.model_validate(RESULT)
    benchmark()
    assert asked[1].suite == "starter"
    assert capsys.readouterr().out == "report: r.html\n"


def test_a_failed_row_ends_with_exit_code_3_after_the_answer(asked, capsys, monkeypatch):
    monkeypatch.setitem(RESULT, "failed", {"student onnx int8": "parity"})
    with pytest.raises(GateError, match="`student onnx int8`: parity") as error:
        benchmark("smoke", as_json=True)
    assert error.value.exit_code == 3
    assert json.loads(capsys.readouterr().out)["failed"] == {"student onnx int8": "parity"}


def test_suites_of_other_kinds_take_no_models(asked):
    for suite in ("export-sd15", "search-transfer"):
        with pytest.raises(InputError, match="--models"):
            benchmark(suite, models=["x"])
    assert asked == []


def test_figures_of_rows_are_printed_as_people_read_them():
    from edgekd.jobs.benchmark import figure_lines
    from edgekd.metrics.metric import Figure

    timed = {"latency_ms": Figure(value=45.41), "peak_bytes": Figure(value=190e6)}
    rows = {"student on pi5": timed, "teacher": {"latency_ms": None, "fd": Figure(value=1)}}
    answer = BenchmarkAnswer.model_validate({**RESULT, "rows": rows})
    assert figure_lines(answer) == ["student on pi5: 45.4 ms p50, 190 MB peak memory"]
    answer = answer.model_copy(update={"busy": ["student on pi5"]})
    said = "student on pi5: 45.4 ms p50, timed on a busy machine, 190 MB peak memory"
    assert figure_lines(answer) == [said]
