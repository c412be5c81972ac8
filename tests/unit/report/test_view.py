from collections.abc import Callable

import pytest

from edgekd.metrics.metric import Figure
from edgekd.recipe import RowGeneration
from edgekd.report import costs, features, matrix, tables, view
from edgekd.report.costs_schema import TrainingCost
from edgekd.report.format import MISSING
from edgekd.report.table import Cell, Table, column

TakeAway = Callable[..., None]


def test_better_and_worse_follow_each_figures_direction(report):
    verdicts = {card.title: card.verdict for card in view.cards(report)}
    assert verdicts["Latency per picture, p50"] == "better"
    assert verdicts["FD to real images"] == "worse"
    assert verdicts["Caption score"] == "same"
    for row in report.rows:
        row.figures["score"] = Figure(value=25.0)  # nothing that chance could be told from
    report.metrics.ratios["score"] = 1.2
    assert {c.title: c.verdict for c in view.cards(report)}["Caption score"] == "better"


def test_tables_have_a_cell_for_every_head(report, full_report):
    makers = (
        matrix.matrix_table,
        view.agreement_table,
        tables.speed_table,
        costs.memory_table,
        tables.component_table,
        tables.parity_table,
        costs.start_table,
        costs.energy_table,
        costs.scaling_table,
        features.nearness_table,
    )
    inner = features.inner_features(full_report)[0]
    made = [make(one) for make in makers for one in (report, full_report)]
    for table in [*made, inner.blocks, inner.steps, inner.cross]:
        if table is None:
            continue
        assert {len(row) for row in table.rows} == {len(table.head)}, table.caption
        assert len(table.kinds) == len(table.rows)


def test_the_teacher_is_always_in_the_matrix(report):
    assert "teacher" in matrix.matrix_table(report).kinds


@pytest.mark.parametrize(("threads", "said"), [(1, "processor time"), (2, "not to be trusted")])
def test_a_busy_machine_is_admitted(full_report, threads, said):
    full_report.suite.speed.threads = threads
    assert said in view.busy_warning(full_report)


def test_nothing_is_said_of_a_quiet_machine(report):
    assert view.busy_warning(report) is None


def test_students_are_compared_with_the_first_one_where_there_are_several(report):
    table = view.agreement_table(report)
    assert "score - first student's" not in table.head
    other = report.rows[2].to_teacher
    difference = other.differences["score"].model_copy(update={"value": 2.5})
    report.rows[2].to_student = other.model_copy(update={"differences": {"score": difference}})
    table = view.agreement_table(report)
    assert Cell("+2.50 ± 0.41", 2.5) in column(table, "score - first student's")


def test_columns_without_a_figure_are_left_out(report, take_away):
    for row in report.rows:
        take_away(row, "latency", "memory")
    head = matrix.matrix_table(report).head
    assert "latency p50" not in head
    assert "peak memory" not in head
    assert "FD ↓" in head


def test_how_rows_draw_is_shown_where_they_differ(report):
    assert "generation" not in matrix.matrix_table(report).head
    report.rows[2].generation = RowGeneration("LCMScheduler", 1, 1.0)
    table = matrix.matrix_table(report)
    shown = [str(cell) for cell in column(table, "generation")]
    assert shown[3] == "1 step of LCMScheduler, guidance 1"
    assert shown[1] == "10 steps of DDIMScheduler, guidance 4"


def cell_of(table: Table, name: str, head: str) -> Cell:
    row = next(row for row in table.rows if row[0].text == name)
    return row[table.head.index(head)]


def test_each_reason_for_a_missing_figure_has_its_own_mark(full_report):
    table = matrix.matrix_table(full_report)
    marks = {
        "teacher openvino int8": "failed",
        "sd-tiny openvino int8": "unmeasured",
        "sd-small openvino int8": "not executed",
    }
    for name, mark in marks.items():
        assert cell_of(table, name, "latency p50") == Cell(mark, mark=True)
    assert "evaluated" in cell_of(table, "sd-small openvino int8", "row").notes
    assert cell_of(table, "sd-small openvino int8", "FD ↓").value == 130.0
    assert "could not compile" in cell_of(table, "teacher openvino int8", "row").notes[0]
    assert cell_of(table, "sd-tiny onnx fp32", "row").notes == ("timed on a busy machine",)


def test_ratios_are_to_the_teacher_in_the_same_runtime(full_report):
    table = matrix.matrix_table(full_report)
    rows = {row.name: row for row in full_report.rows}
    student, teacher = rows["sd-small onnx int8"], rows["teacher onnx int8"]
    expected = student.value("latency_ms") / teacher.value("latency_ms")
    assert cell_of(table, student.name, "latency p50").notes == (
        f"{expected:.2f}\N{MULTIPLICATION SIGN}",
    )
    assert cell_of(table, teacher.name, "latency p50").notes == ()
    # The teacher failed in OpenVINO: there is nothing to hold the student against.
    assert cell_of(table, "sd-small openvino int8", "FD ↓").notes == ("95 %: 124 to 138",)


def test_rows_of_a_model_stand_together_under_its_name(full_report):
    full_report.rows.reverse()
    sections = matrix.matrix_table(full_report).sections
    names = [name for name, _ in sections]
    assert names == ["", "teacher", "sd-tiny (student)", "sd-small (student)"]


def test_a_heat_map_has_its_numbers(full_report):
    inner = features.inner_features(full_report)[0]
    assert inner.steps.head == ["block", "t=900", "t=500", "t=100"]
    assert inner.steps.rows[0][1] == Cell("0.97", 0.97, heat=0.97)
    assert [len(row) for row in inner.cross.rows] == [5] * 5
    assert [str(cell) for cell in inner.blocks.rows[0]] == ["down.0", "0.930", "0.630", "0.090"]


def test_rows_that_were_timed_on_a_busy_machine_are_named(full_report):
    assert "sd-tiny onnx fp32 was timed" in view.busy_warning(full_report)


def test_training_is_told_by_phase_in_shares_of_a_step(report):
    one = {"samples_per_s": 21.7, "parts": {"teacher forward": 0.1, "EMA": 0.3}, "peak_bytes": 2e9}
    two = {"samples_per_s": 3.0, "parts": {"EMA": 0.2, "optimiser": 0.2}, "peak_bytes": None}
    told = {name: TrainingCost.model_validate(c) for name, c in {"kd": one, "tail": two}.items()}
    assert costs.training_table(report) is None
    table = costs.training_table(report.model_copy(update={"training": told}))
    assert table.head[2:5] == ["teacher forward", "EMA", "optimiser"]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["kd", "21.7", "25%", "75%", MISSING, "2.00 GB"],
        ["tail", "3.00", MISSING, "50%", "50%", MISSING],
    ]
