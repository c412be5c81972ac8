from typing import Any

import pytest

from edgekd.benchmark.headline import headline


def row(name: str, role: str, runtime: str, precision: str, ms: float, fd: float) -> dict[str, Any]:
    return {
        "name": name,
        "role": role,
        "runtime": runtime,
        "precision": precision,
        "not_executed": None,
        "evaluated": None,
        "parameters": 100 if role == "teacher" else 60,
        "size_bytes": 400,
        "stored_dtype": "fp32" if runtime == "torch" else None,
        "quality": {"fd": fd, "kid": 0.0, "score": 20.0},
        "speed": {"image": {"p50_ms": ms}},
        "memory": {"peak_bytes": 1000, "above_baseline_bytes": 100},
    }


ROWS = [
    row("t", "teacher", "torch", "fp32", 100, 50),
    row("to", "teacher", "onnx", "fp32", 80, 51),
    row("s", "student", "torch", "fp32", 60, 70),
    row("so", "student", "onnx", "fp32", 40, 71),
    row("so8", "student", "onnx", "int8", 30, 90),
]


@pytest.mark.parametrize(
    ("deploy", "pair"),
    [
        (("onnx", "fp32"), ("to", "so")),
        (("onnx", "int8"), ("to", "so8")),  # no int8 teacher: the same runtime
        (("torch", "fp32"), ("t", "s")),
        (None, ("t", "s")),
        (("coreml", "fp16"), ("t", "s")),  # not measured: the first student
    ],
)
def test_like_is_compared_with_like(deploy: tuple[str, str] | None, pair: tuple[str, str]) -> None:
    made = headline(ROWS, deploy)
    assert (made["rows"]["teacher"], made["rows"]["student"]) == pair


def test_ratios_are_student_over_teacher() -> None:
    made = headline(ROWS, ("onnx", "fp32"))
    assert made["ratios"]["latency_ms"] == 0.5
    assert made["ratios"]["parameters"] == 0.6
    assert made["ratios"]["fd"] == 71 / 51
    assert made["ratios"]["kid"] is None  # the teacher's is 0
    assert made["teacher"]["peak_bytes"] == 1000


def test_what_was_not_measured_is_none_not_zero() -> None:
    rows = [{**r, "speed": None, "memory": None} for r in ROWS]
    made = headline(rows, None)
    assert made["student"]["latency_ms"] is None
    assert made["ratios"]["peak_bytes"] is None
    assert made["ratios"]["fd"] == 1.4


def test_rows_that_were_not_executed_never_make_the_headline() -> None:
    absent = {**row("c", "student", "coreml", "fp16", 1, 1), "not_executed": "no Mac"}
    assert headline([absent, *ROWS], ("coreml", "fp16"))["rows"]["student"] == "s"


def test_a_row_that_was_evaluated_keeps_its_quality_and_has_no_times() -> None:
    rows = [
        {**r, "runtime": "coreml", "evaluated": "no Mac", "speed": None, "memory": None}
        for r in ROWS
        if r["runtime"] == "onnx"
    ]
    made = headline([*ROWS[::2][:2], *rows], ("coreml", "int8"))
    assert made["rows"] == {"teacher": "to", "student": "so8"}
    assert made["ratios"]["fd"] == 90 / 51
    for name in ("latency_ms", "peak_bytes", "peak_above_baseline_bytes"):
        assert made["teacher"][name] is made["student"][name] is made["ratios"][name] is None
    assert made["evaluated"] == "no Mac"
    assert made["torch_latency_ms"] == {"teacher": 100, "student": 60, "ratio": 0.6}


def test_a_row_that_was_executed_has_no_stand_in() -> None:
    assert not {"evaluated", "torch_latency_ms"} & set(headline(ROWS, ("onnx", "fp32")))


def test_a_teacher_alone_has_no_ratios() -> None:
    made = headline(ROWS[:2], None)
    assert made["rows"] == {"teacher": "t", "student": None}
    assert made["ratios"] is None


@pytest.mark.parametrize(
    ("deploy", "teacher", "ratio"),
    [
        (("torch", "fp32"), "fp32", 1.0),
        (("torch", "fp32"), "fp16", None),
        (("onnx", "fp32"), "fp16", 1.0),  # the teacher's export, in its own precision
    ],
)
def test_sizes_of_different_types_have_no_ratio(
    deploy: tuple[str, str], teacher: str, ratio: float | None
) -> None:
    rows = [{**r, "stored_dtype": teacher} if r["name"] == "t" else r for r in ROWS]
    assert headline(rows, deploy)["ratios"]["size_bytes"] == ratio


def test_an_export_beside_a_teacher_in_torch() -> None:
    rows = [{**ROWS[0], "stored_dtype": "fp16"}, ROWS[3]]
    assert headline(rows, ("onnx", "fp32"))["ratios"]["size_bytes"] is None
    assert headline([ROWS[0], ROWS[3]], ("onnx", "fp32"))["ratios"]["size_bytes"] == 1.0
