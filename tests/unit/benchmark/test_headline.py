from typing import Any

import pytest

from edgekd.benchmark.headline import headline, headline_rows
from edgekd.metrics.metric import Figure
from edgekd.metrics.registry import load_metrics
from edgekd.report.schema import Row, TorchLatency

METRICS = [metric.descriptor for metric in load_metrics()]


def row(name: str, role: Any, runtime: str, precision: str, ms: float, fd: float) -> Row:
    values = {
        "parameters": 100 if role == "teacher" else 60,
        "size_bytes": 400,
        "fd": fd,
        "kid": 0.0,
        "score": 20.0,
        "latency_ms": ms,
        "peak_bytes": 1000,
        "peak_above_baseline_bytes": 100,
    }
    return Row(
        name=name,
        model=role,
        role=role,
        runtime=runtime,
        precision=precision,
        not_executed=None,
        evaluated=None,
        generation=None,
        component_parameters={},
        component_bytes={},
        stored_dtype="fp32" if runtime == "torch" else None,
        parity={},
        figures={name: Figure(value=value) for name, value in values.items()},
    )


ROWS = [
    row("t", "teacher", "torch", "fp32", 100, 50),
    row("to", "teacher", "onnx", "fp32", 80, 51),
    row("s", "student", "torch", "fp32", 60, 70),
    row("so", "student", "onnx", "fp32", 40, 71),
    row("so8", "student", "onnx", "int8", 30, 90),
]
COSTS = ("latency_ms", "peak_bytes", "peak_above_baseline_bytes")


def changed(row: Row, **changes: Any) -> Row:
    return row.model_copy(update=changes)


def without_costs(row: Row, **changes: Any) -> Row:
    return changed(row, figures={**row.figures, **dict.fromkeys(COSTS)}, **changes)


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
def test_like_is_compared_with_like(deploy, pair):
    made = headline(ROWS, METRICS, deploy)
    assert (made.rows.teacher, made.rows.student) == pair


def test_ratios_are_student_over_teacher():
    made = headline(ROWS, METRICS, ("onnx", "fp32"))
    assert made.ratios["latency_ms"] == 0.5
    assert made.ratios["parameters"] == 0.6
    assert made.ratios["fd"] == 71 / 51
    assert made.ratios["kid"] is None  # the teacher's is 0
    assert made.teacher["peak_bytes"] == 1000
    assert made.evaluated is made.torch_latency_ms is None  # it was executed


def test_what_was_not_measured_is_none_not_zero():
    made = headline([without_costs(row) for row in ROWS], METRICS, None)
    assert made.student["latency_ms"] is None
    assert made.ratios["peak_bytes"] is None
    assert made.ratios["fd"] == 1.4


def test_rows_that_were_not_executed_never_make_the_headline():
    absent = changed(row("c", "student", "coreml", "fp16", 1, 1), not_executed="no Mac")
    assert headline([absent, *ROWS], METRICS, ("coreml", "fp16")).rows.student == "s"


@pytest.mark.parametrize("why", ["failed", "unmeasured"])
def test_rows_without_pictures_make_the_headline_only_where_no_others_are(why):
    rows = [changed(row, **{why: "a reason"}) if row.precision == "fp32" else row for row in ROWS]
    made = headline([*rows, ROWS[1]], METRICS, ("onnx", "fp32"))
    assert (made.rows.teacher, made.rows.student) == ("to", "so8")
    assert headline(rows[:1], METRICS, None).rows.teacher == "t"


def test_a_row_that_was_evaluated_keeps_its_quality_and_has_no_times():
    rows = [
        without_costs(row, runtime="coreml", evaluated="no Mac")
        for row in ROWS
        if row.runtime == "onnx"
    ]
    made = headline([*ROWS[::2][:2], *rows], METRICS, ("coreml", "int8"))
    assert (made.rows.teacher, made.rows.student) == ("to", "so8")
    assert made.ratios["fd"] == 90 / 51
    for name in COSTS:
        assert made.teacher[name] is made.student[name] is made.ratios[name] is None
    assert made.evaluated == "no Mac"
    assert made.torch_latency_ms == TorchLatency(teacher=100, student=60, ratio=0.6)


def test_a_teacher_alone_has_no_ratios():
    made = headline(ROWS[:2], METRICS, None)
    assert (made.rows.teacher, made.rows.student) == ("t", None)
    assert made.ratios is None


@pytest.mark.parametrize(
    ("rows", "teacher", "deploy", "ratio"),
    [
        (ROWS, "fp32", ("torch", "fp32"), 1.0),
        (ROWS, "fp16", ("torch", "fp32"), None),
        (ROWS, "fp16", ("onnx", "fp32"), 1.0),  # the teacher's export, in its own precision
        ([ROWS[0], ROWS[3]], "fp16", ("onnx", "fp32"), None),  # beside a teacher in torch
        ([ROWS[0], ROWS[3]], "fp32", ("onnx", "fp32"), 1.0),
    ],
)
def test_sizes_of_different_types_have_no_ratio(rows, teacher, deploy, ratio):
    rows = [changed(rows[0], stored_dtype=teacher), *rows[1:]]
    found = headline(rows, METRICS, deploy).ratios
    assert found["size_bytes"] == ratio


def on(device: str, *rows: Row, **changes: Any) -> list[Row]:
    return [changed(one, name=f"{one.name} on {device}", device=device, **changes) for one in rows]


@pytest.mark.parametrize(
    ("devices", "evaluated", "device"),
    [
        (["local"], None, "this machine"),
        (["local", "pi"], None, "this machine"),
        (["pi", "local"], None, "pi"),
        (["pi"], None, "pi"),
        (["bare", "pi"], None, "pi"),
        (["bare"], None, "this machine"),
        (["local", "pi"], "by its files", "pi"),
    ],
)
def test_the_headline_speaks_of_the_first_device_that_timed_the_student(devices, evaluated, device):
    exported = [ROWS[1], ROWS[3]]
    here = exported
    if evaluated:
        here = [without_costs(one, evaluated=evaluated) for one in exported]
    bare = [without_costs(one) for one in on("bare", *exported)]
    rows = [*here, *bare, *on("pi", *exported)]
    found = headline_rows(rows, devices, ("onnx", "fp32"))
    assert {one.device for one in found} == {device}


def test_a_student_timed_where_no_teacher_was_is_held_against_this_machines_quality_alone():
    student = on("pi", ROWS[4])
    rows = [*[without_costs(one) for one in ROWS], *student]
    found = headline_rows(rows, ["pi"], ("onnx", "int8"))
    made = headline(found, METRICS, ("onnx", "int8"))
    assert (made.rows.student, made.rows.teacher) == ("so8 on pi", "to")
    assert made.student["latency_ms"] == 30
    assert made.ratios["fd"] == 90 / 51
    # Costs of two machines have no ratio, even where both are there.
    both = headline([*ROWS[:2], *student], METRICS, ("onnx", "int8"))
    assert both.teacher["peak_bytes"] == 1000
    assert both.ratios["peak_bytes"] is both.ratios["latency_ms"] is None
