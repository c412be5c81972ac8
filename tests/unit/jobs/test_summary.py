from typing import Any

from edgekd.jobs.answers import DistillAnswer
from edgekd.jobs.summary import summary_lines

FIGURES = {
    "parameters": 2e6,
    "latency_ms": 100.0,
    "peak_bytes": 5e8,
    "fd": 90.0,
    "kid": 0.1,
    "score": 20.0,
}


def result(**metrics: Any) -> DistillAnswer:
    rows = {"teacher": "t", "student": "s"}
    plain = {"teacher": FIGURES, "student": FIGURES, "ratios": dict.fromkeys(FIGURES, 1.0)}
    paths = {"student": "s", "export": "e", "report": "r", "teacher": "t", "bundles": {"web": "b"}}
    headline = {**plain, "rows": rows, **metrics}
    return DistillAnswer.model_validate({**paths, "metrics": headline, "busy": []})


def test_every_figure_has_a_line():
    lines = summary_lines(result())
    assert len(lines) == 1 + len(FIGURES) + 4
    assert lines[-1] == "bundle:   b"
    assert lines[2].split() == ["latency", "p50", "100", "ms", "100", "ms", "1.00"]
    assert any(line.startswith("1000 KID ↓") and "100" in line for line in lines)


def test_times_of_a_busy_machine_are_marked():
    busy = result().model_copy(update={"busy": ["teacher onnx fp32", "student onnx fp32"]})
    said = "timed on a busy machine: teacher onnx fp32, student onnx fp32"
    assert said in summary_lines(busy)
    assert said not in summary_lines(result())


def test_what_was_not_run_says_so_and_shows_torch_beside_it():
    absent = {**FIGURES, "latency_ms": None, "peak_bytes": None}
    ratios = {**dict.fromkeys(FIGURES, 1.0), "latency_ms": None, "peak_bytes": None}
    lines = summary_lines(
        result(
            teacher=absent,
            student=absent,
            ratios=ratios,
            evaluated="drawn from the package",
            torch_latency_ms={"teacher": 100.0, "student": 60.0, "ratio": 0.6},
        )
    )
    assert sum("not run" in line for line in lines) == 3
    assert "not run: drawn from the package" in lines
    (beside,) = (line for line in lines if "in torch" in line)
    assert beside.split()[-5:] == ["100", "ms", "60.0", "ms", "0.60"]
