import pytest

from edgekd.report.plots import curve_colors, curve_terms, loss_curves, smooth
from edgekd.report.schema import Report, Row
from edgekd.report.svg import row_colors, row_series


def test_smoothing_keeps_a_constant_and_its_ends() -> None:
    assert smooth([3.0] * 5) == pytest.approx([3.0] * 5)
    assert smooth([5.0]) == [5.0]


def test_smoothing_neither_lags_nor_leads() -> None:
    line = [float(step) for step in range(100)]
    assert smooth(line)[50] == pytest.approx(50.0, abs=0.01)


def test_smoothing_reduces_noise() -> None:
    zigzag = [float(step % 2) for step in range(100)]
    assert max(abs(value - 0.5) for value in smooth(zigzag)[5:-5]) < 0.1


def test_raw_terms_are_shown_in_order_weighted_ones_and_the_rate_are_not() -> None:
    point = [(1.0, 1.0)]
    curves = {
        "kd": {
            "lr": point,
            "output": point,
            "output_weighted": point,
            "loss": point,
            "extra": point,
        },
        "scratch": {"task": point},
    }
    assert [term for term, _ in curve_terms(curves)] == ["loss", "task", "output", "extra"]


def test_runs_are_overlaid_with_a_legend() -> None:
    series = [(float(step), 1.0 / step) for step in range(1, 60)]
    svg = str(loss_curves({"kd": {"task": series}, "scratch": {"task": series}}))
    assert ">kd<" in svg
    assert ">scratch<" in svg
    assert "var(--series-1)" in svg


def test_a_loss_of_zero_is_plotted_without_a_logarithm() -> None:
    assert loss_curves({"kd": {"feature": [(1.0, 0.0), (2.0, 0.0)]}}) is not None


def test_no_curves_no_plot() -> None:
    assert loss_curves({}) is None


@pytest.fixture
def rows(report: Report) -> list[Row]:
    student = report.rows[2]
    others = [student.model_copy(update={"name": f"student {name}"}) for name in ("kd", "scratch")]
    return [others[0], report.rows[0], others[1]]


def test_a_run_has_its_rows_colour(rows: list[Row]) -> None:
    colors = curve_colors(["kd", "scratch", "other"], rows)
    assert colors["kd"] == row_colors(rows)["student kd"]
    assert colors["scratch"] == row_colors(rows)["student scratch"]
    assert colors["other"] not in row_colors(rows).values()


def test_teachers_are_blue_wherever_they_stand(rows: list[Row]) -> None:
    assert row_series(rows) == {"student kd": 2, "teacher": 0, "student scratch": 3}


def test_more_rows_than_colours_begin_again(rows: list[Row]) -> None:
    rows = [rows[0].model_copy(update={"name": str(index)}) for index in range(20)]
    assert set(row_series(rows).values()) == {2, 3, 4, 5, 6, 7}


def test_the_teachers_validation_loss_is_a_line_in_the_students_panel() -> None:
    curve = {
        "validation_task": [(0.0, 0.3), (100.0, 0.1)],
        "validation_teacher_task": [(0.0, 0.05), (100.0, 0.05)],
    }
    assert [term for term, _ in curve_terms({"student": curve})] == ["validation_task"]
    assert ">teacher<" in str(loss_curves({"student": curve}))
