import pytest

from edgekd.report.plots.features import projections
from edgekd.report.plots.latency import scaling
from edgekd.report.plots.quality import pareto
from edgekd.report.plots.training import curve_colors, curve_terms, loss_curves, smooth
from edgekd.report.schema import Row
from edgekd.report.svg import row_colors, row_markers, row_series


def test_smoothing_keeps_a_constant_and_its_ends():
    assert smooth([3.0] * 5) == pytest.approx([3.0] * 5)
    assert smooth([5.0]) == [5.0]


def test_smoothing_neither_lags_nor_leads():
    line = [float(step) for step in range(100)]
    assert smooth(line)[50] == pytest.approx(50.0, abs=0.01)


def test_smoothing_reduces_noise():
    zigzag = [float(step % 2) for step in range(100)]
    assert max(abs(value - 0.5) for value in smooth(zigzag)[5:-5]) < 0.1


def test_raw_terms_are_shown_in_order_weighted_ones_and_the_rate_are_not():
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


def test_runs_are_overlaid_with_a_legend():
    series = [(float(step), 1.0 / step) for step in range(1, 60)]
    svg = str(loss_curves({"kd": {"task": series}, "scratch": {"task": series}}))
    assert ">kd<" in svg
    assert ">scratch<" in svg
    assert "var(--series-1)" in svg


def test_a_loss_of_zero_is_plotted_without_a_logarithm():
    assert loss_curves({"kd": {"feature": [(1.0, 0.0), (2.0, 0.0)]}}) is not None


def test_no_curves_no_plot():
    assert loss_curves({}) is None


@pytest.fixture
def rows(report) -> list[Row]:
    student = report.rows[2]
    others = [
        student.model_copy(update={"name": f"student {name}", "model": name})
        for name in ("kd", "scratch")
    ]
    return [others[0], report.rows[0], others[1]]


def test_a_run_has_its_rows_colour(rows):
    colors = curve_colors(["kd", "scratch", "other"], rows)
    assert colors["kd"] == row_colors(rows)["student kd"]
    assert colors["scratch"] == row_colors(rows)["student scratch"]
    assert colors["other"] not in row_colors(rows).values()


def test_teachers_are_blue_wherever_they_stand(rows):
    assert row_series(rows) == {"student kd": 2, "teacher": 0, "student scratch": 3}


def test_more_rows_than_colours_begin_again(rows):
    rows = [
        rows[0].model_copy(update={"name": str(index), "model": str(index)}) for index in range(20)
    ]
    assert set(row_series(rows).values()) == {2, 3, 4, 5, 6, 7}


def test_the_teachers_validation_loss_is_a_line_in_the_students_panel():
    curve = {
        "validation_task": [(0.0, 0.3), (100.0, 0.1)],
        "validation_teacher_task": [(0.0, 0.05), (100.0, 0.05)],
    }
    assert [term for term, _ in curve_terms({"student": curve})] == ["validation_task"]
    assert ">teacher<" in str(loss_curves({"student": curve}))


def test_rows_of_a_model_share_a_colour_and_rows_of_a_runtime_a_marker(full_report):
    series, markers = row_series(full_report.rows), row_markers(full_report.rows)
    for one in full_report.rows:
        for other in full_report.rows:
            assert (series[one.name] == series[other.name]) == (one.model == other.model)
            same = (one.runtime, one.precision) == (other.runtime, other.precision)
            assert (markers[one.name] == markers[other.name]) == same


@pytest.mark.parametrize(
    ("direction", "points", "best"),
    [
        # The dear one that is worse, and the one as good as a cheaper one, are beaten.
        ("lower", [(3, 1.0), (1, 5.0), (2, 3.0), (4, 2.0), (5, 1.0)], [1, 2, 0]),
        ("higher", [(3, 9.0), (1, 5.0), (2, 4.0)], [1, 0]),
        ("higher", [(1, 5.0), (1, 7.0)], [1]),
        ("lower", [], []),
    ],
)
def test_the_front_holds_what_none_beats_in_both(direction, points, best):
    assert pareto(points, direction) == best


def test_the_exponent_stands_at_the_end_of_its_line(full_report):
    svg = str(scaling(full_report))
    for shown in (">0.91<", ">1.80<", ">-0.72<", ">denoising steps<"):
        assert shown.replace("-", "\N{MINUS SIGN}") in svg or shown in svg
    full_report.scaling = []
    assert scaling(full_report) is None


def test_a_projection_says_how_it_was_made(full_report):
    svg = str(projections(full_report))
    assert "t-SNE (seed 0, perplexity 15)" in svg
    assert "PCA (31 % + 12 % of the variance)" in svg
