from collections.abc import Callable

import pytest

from edgekd.recipe import RowGeneration
from edgekd.report import tables, view
from edgekd.report.schema import Report

TakeAway = Callable[..., None]


def test_better_and_worse_follow_each_figures_direction(report: Report) -> None:
    verdicts = {card.title: card.verdict for card in view.cards(report)}
    assert verdicts["Latency per picture, p50"] == "better"
    assert verdicts["FD to real images"] == "worse"
    assert verdicts["Caption score"] == "same"
    assert report.metrics.ratios is not None
    report.metrics.ratios["score"] = 1.2
    assert {c.title: c.verdict for c in view.cards(report)}["Caption score"] == "better"


def test_tables_have_a_cell_for_every_head(report: Report) -> None:
    makers = (
        view.matrix_table,
        view.agreement_table,
        tables.speed_table,
        tables.memory_table,
        tables.component_table,
        tables.parity_table,
    )
    for make in makers:
        table = make(report)
        assert table is not None
        assert {len(row) for row in table.rows} == {len(table.head)}, table.caption
        assert len(table.kinds) == len(table.rows)


def test_the_teacher_is_always_in_the_matrix(report: Report) -> None:
    assert "teacher" in view.matrix_table(report).kinds


@pytest.mark.parametrize(("factor", "warned"), [(1.0, False), (3.0, True)])
def test_a_busy_machine_is_admitted(report: Report, factor: float, warned: bool) -> None:
    for row in report.rows:
        if row.speed:
            image = row.speed["image"]
            image.cpu_p50_ms = image.p50_ms / factor
    assert (view.busy_warning(report) is not None) == warned


def test_with_several_threads_processor_time_says_nothing_of_waiting(
    report: Report,
) -> None:
    assert report.suite.speed is not None
    report.suite.speed.threads = 2
    report.rows[0].speed["image"].cpu_p50_ms = 1.0
    assert view.busy_warning(report) is None


def test_students_are_compared_with_the_first_one_where_there_are_several(
    report: Report,
) -> None:
    table = view.agreement_table(report)
    assert table is not None
    assert "score - first student's" not in table.head
    other = report.rows[2].to_teacher
    assert other is not None
    difference = other.differences["score"].model_copy(update={"value": 2.5})
    report.rows[2].to_student = other.model_copy(update={"differences": {"score": difference}})
    table = view.agreement_table(report)
    assert table is not None
    column = table.head.index("score - first student's")
    assert "+2.50 ± 0.41" in [row[column] for row in table.rows]


def test_columns_without_a_figure_are_left_out(report: Report, take_away: TakeAway) -> None:
    for row in report.rows:
        take_away(row, "latency", "memory")
    head = view.matrix_table(report).head
    assert "latency p50" not in head
    assert "peak memory" not in head
    assert "FD ↓" in head


def test_how_rows_draw_is_shown_where_they_differ(report: Report) -> None:
    assert "generation" not in view.matrix_table(report).head
    report.rows[2].generation = RowGeneration("LCMScheduler", 4, 1.0)
    table = view.matrix_table(report)
    column = table.head.index("generation")
    assert table.rows[3][column] == "4 steps of LCMScheduler, guidance 1"
    assert table.rows[1][column] == "10 steps of DDIMScheduler, guidance 4"
