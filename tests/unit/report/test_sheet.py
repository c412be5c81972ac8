import csv
import io

import pytest

from edgekd.report.sheet import csv_text, safe


def lines(report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(report), newline="")))


def test_a_line_for_each_row_and_a_column_for_each_metric(full_report):
    found = lines(full_report)
    assert [line["row"] for line in found] == [
        "real images",
        *(row.name for row in full_report.rows),
    ]
    line = next(line for line in found if line["row"] == "sd-small onnx fp32")
    name = "FD-efficientnet_lite0-r128-n64"
    row = next(row for row in full_report.rows if row.name == line["row"])
    assert float(line[name]) == row.value("fd")
    assert float(line[f"{name} low"]) == row.figures["fd"].low
    assert float(line["latency_ms [ms]"]) == row.value("latency_ms")
    assert (line["state"], line["steps"], line["guidance"]) == ("measured", "10", "4")


def test_what_is_missing_is_empty_and_says_why(full_report):
    line = next(line for line in lines(full_report) if line["row"] == "teacher openvino int8")
    assert line["state"] == "failed"
    assert "<Interpolate>" in line["reason"]
    assert line["FD-efficientnet_lite0-r128-n64"] == ""


def test_times_of_a_busy_machine_are_marked(full_report):
    reasons = {line["row"]: line["reason"] for line in lines(full_report)}
    assert reasons["sd-tiny onnx fp32"] == "timed on a busy machine"
    assert reasons["sd-small onnx fp32"] == ""


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_name_becomes_a_formula(report, name):
    report.rows[0].name = report.rows[1].model = name
    report.rows[5].not_executed = name
    found = lines(report)
    assert found[1]["row"] == found[2]["model"] == found[6]["reason"] == f"'{name}"
    assert safe("plain - name") == "plain - name"


def test_commas_quotes_and_lines_stay_in_their_cell(report):
    report.rows[0].name = 'a,"b"\nc'
    assert lines(report)[1]["row"] == 'a,"b"\nc'
