import pytest

from edgekd.errors import GateError, InputError
from edgekd.report.compare import Named
from edgekd.report.rules import check_rules, parse_rule, raise_failed


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("score<0.95", 0.94, True),
        ("score<0.95", 0.95, False),
        (" score <= 0.95 ", 0.95, True),
        ("fd>1.2e0", 1.3, True),
        ("fd>=1.2", 1.2, True),
        ("fd>1.2", 1.2, False),
    ],
)
def test_a_rule_holds_beyond_its_bound(text, value, holds):
    assert parse_rule(text).holds(value) == holds


@pytest.mark.parametrize(
    "text",
    ["score", "score=1", "score<", "<1", "score<one", "score<nan", "score<1e999", "a b<1", "s<1<2"],
)
def test_what_is_no_rule_is_refused(text):
    with pytest.raises(InputError, match="--fail-on"):
        parse_rule(text)


def test_of_one_report_a_rule_is_on_student_to_teacher(report):
    named = [Named("a", report)]
    ratio = report.metrics.ratios["fd"]
    (gate,) = check_rules([parse_rule("fd>1.1")], named)
    assert (gate.value, gate.failed) == (ratio, True)
    assert gate.of == "student ONNX / teacher ONNX"
    with pytest.raises(GateError, match=r"'fd>1.1': 1.261 \(student ONNX / teacher ONNX\)"):
        raise_failed([gate])


def test_of_several_reports_a_rule_is_on_the_last_to_the_first(report):
    middle, last = report.model_copy(deep=True), report.model_copy(deep=True)
    middle.metrics.student["score"] = 1.0
    last.metrics.student["score"] = 0.9 * report.metrics.student["score"]
    named = [Named("a", report), Named("m", middle), Named("b", last)]
    passed, failed = check_rules([parse_rule("score<0.89"), parse_rule("score<0.91")], named)
    assert failed.value == pytest.approx(0.9)
    assert (passed.failed, failed.failed) == (False, True)
    assert failed.of == "student ONNX in b / student ONNX in a"


def test_a_rule_without_a_value_fails(report):
    report.metrics.ratios["score"] = None
    (gate,) = check_rules([parse_rule("score<0.9")], [Named("a", report)])
    assert gate.failed
    with pytest.raises(GateError, match="no value"):
        raise_failed([gate])


def test_an_unknown_metric_is_named_with_the_known_ones(report):
    with pytest.raises(InputError, match=r"fd, .*`colour`"):
        check_rules([parse_rule("colour<1")], [Named("a", report)])


def test_figures_that_are_measured_differently_have_no_ratio(report):
    last = report.model_copy(deep=True)
    last.descriptors = [
        one.model_copy(update={"full_name": "other"}) if one.name == "fd" else one
        for one in last.descriptors
    ]
    with pytest.raises(InputError, match="FD-efficientnet_lite0-r128-n64, other"):
        check_rules([parse_rule("fd>1")], [Named("a", report), Named("b", last)])


def test_distances_to_other_real_images_have_no_ratio(report):
    last = report.model_copy(deep=True)
    last.data.key = "another"
    named = [Named("a", report), Named("b", last)]
    with pytest.raises(InputError, match="held against other real images"):
        check_rules([parse_rule("fd>1")], named)
    (gate,) = check_rules([parse_rule("score<0.5")], named)
    assert not gate.failed
